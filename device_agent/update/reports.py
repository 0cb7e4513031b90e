"""A report to the PN GW, and what its answer means for an UpdateService. Loaded for each report."""

from cpns import cborlite
from cpns.errors import MalformedMessage, Unknown
from device_agent import tuning
from device_agent.update import key
from device_agent.update.pieces import OPTIONS
from device_agent.update.service import NEVER
from suit import numbers as n


def report(service):
    """Report to the PN GW, and do what its answer asks for (flow). A PN GW without updates is not asked again.

    One that nothing else asks is asked all the same. An answer confirms what is on trial. The first update key that it
    names is kept. Raises as `Session.ask` does, and MalformedMessage for an answer of another form.
    """
    identity, record, every = service.membership.identity, service.updates.state(), service.every()
    if not record.trial:
        service.retry = min(2 * service.retry, tuning.UPDATE_RETRY_MAX)
    try:
        mine = key.load(service.store, identity)
    except MalformedMessage:
        mine = b""  # it counts as none, but no other takes its place
    numbers = tuple([each if each <= n.NUMBER_MAX else 0 for each in (record.agent_number, record.firmware_number)])
    told = [n.REPORT, list(service.updates.classes()), key.key_id(mine)]
    told.extend(numbers + _state(service, record))
    try:
        _, octets = yield from service.session.ask(OPTIONS, cborlite.encode(told))
    except Unknown:
        service.step_at = NEVER
        service.report_at = NEVER if every == tuning.UPDATE_REPORT_EVERY else service.clock.now() + every
        return
    update_id, _, first_key, by_air = _answer(octets)
    service.retry = tuning.UPDATE_RETRY_MIN
    service.report_at = service.later(tuning.UPDATE_LEISURE) + every
    trial = record.trial
    if trial:
        service.updates.confirm()
        service.tell("update", {"state": "confirmed", "number": record.wanted, "reason": n.NO_REASON})
        service.hint()
    if mine is None and first_key and record.refusal(False, 0) != n.NO_FLOOR:
        key.take(service.store, identity, first_key)
        service.refused = None  # it may have been for the lack of a key
        service.hint()
    if not trial:
        _offered(service, update_id, by_air * 1000)


def _offered(service, update_id, by_air):
    # `by_air`: ms for which the update is broadcast, and nothing is to be pulled
    collecting = service.collecting
    if collecting and collecting.update_id != update_id:
        collecting.drop("withdrawn")
        collecting = None
    if update_id != service.offer:
        service.hint_gap = tuning.UPDATE_HINT_EVERY
    service.offer = update_id
    service.by_air = by_air > 0
    service.step_at = NEVER
    if not update_id or (service.refused and service.refused[0] == update_id):
        return
    if collecting and collecting.whole:
        collecting.finish()
    elif by_air:
        service.report_at = service.later(tuning.UPDATE_MISSED) + by_air
    elif collecting:  # it has waited for its turn
        service.step_at = service.clock.now()
    else:
        service.step_at = service.later(tuning.UPDATE_PULL_LEISURE)


def _state(service, record):
    # Return (state, number of the update that it is about, detail)
    if record.trial:
        return n.TRIAL, record.wanted, 0
    if service.collecting:
        return service.collecting.state
    if service.refused and service.refused[0] == service.offer:
        return n.REFUSED, service.refused[1], service.refused[2]
    if record.reason:
        return n.REFUSED if record.reason == n.NO_FLOOR else n.FELL_BACK, record.wanted, record.reason
    return n.IDLE, 0, 0


def _answer(octets):
    value = cborlite.decode(octets)
    if isinstance(value, list) and [type(each) for each in value] == [bytes, int, bytes, int]:
        update_id, number, first_key, by_air = value
        if len(update_id) in (0, n.ID) and len(first_key) in (0, 64) and min(number, by_air) >= 0:
            return update_id, number, first_key, min(by_air, tuning.UPDATE_BY_AIR_MAX)
    raise MalformedMessage("no answer to a report")
