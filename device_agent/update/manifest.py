"""A manifest before anything of its update is collected: whether this board takes it. Loaded for each one.

The checks go from the cheap ones to the signature, and none of them touches the flash (SEC-09, SEC-30).
"""

from hashlib import sha256

from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic, Unknown
from device_agent import tuning
from device_agent.broadcast_receiver import Limiter
from device_agent.crypto.p256 import VerifyingKey, unhurried
from device_agent.update import key
from device_agent.update.collecting import Collecting, piece
from suit import frames
from suit import numbers as n
from suit.class_id import VENDOR
from suit.envelope import FIRMWARE, parse

_ENOSPC = 28


def hear(service, datagram):
    """Act on a manifest that was broadcast, if only a board or the PN GW can have made it (flow).

    Raises MalformedMessage, NotAuthentic, and Unknown for a generation without GKDK.
    """
    frame = frames.parse(datagram)
    update_id = frame.update_id
    octets = frames.envelope_of(frame.body, update_id, service.membership.gkdks.frame_keys)
    datagram = frame = None  # frees a kilobyte
    envelope, reason = yield from _judged(service, update_id, octets)
    if reason == n.OTHER_KEY:
        service.limiter = service.limiter or Limiter()
        service.limiter.bad(service.clock.now())
    elif envelope and reason and update_id != service.offer:
        service.known = update_id
    elif envelope:
        _begin(service, envelope, octets, reason)


def pull(service):
    """Ask the PN GW for the envelope of what it offers, and act on it (flow). Raises as `Session.ask`."""
    update_id = service.offer
    try:
        octets = yield from piece(service, update_id, n.ENVELOPE, 0)
    except (NotAllowed, Unknown):
        service.new_gateway()
        return
    envelope, reason = yield from _judged(service, update_id, octets)
    if update_id != service.offer:
        return  # withdrawn meanwhile
    if envelope:
        _begin(service, envelope, octets, reason)
    else:
        service.end(update_id, "refused", 0, reason)


def resume(service, collection):
    """Go on with a ports.Collection that was begun before a restart."""
    try:
        envelope = parse(collection.envelope)
        if not _refusal(service, envelope):
            service.collecting = Collecting(service, envelope, collection)
            return
    except MalformedMessage:
        pass
    collection.drop()


def _judged(service, update_id, octets):
    # Return (Envelope or None, reason). What `update_id` says nothing about is that reason without an Envelope, or
    # OTHER_KEY: somebody else can have put it around the same manifest
    try:
        envelope = parse(octets)
    except MalformedMessage:
        envelope = None
    if envelope is None or envelope.update_id != update_id or len(octets) > n.ENVELOPE_MAX:
        return None, n.NOT_UNDERSTOOD
    reason = _refusal(service, envelope) or _room(service, envelope)
    if reason:
        return envelope, reason
    try:
        octets = key.load(service.store, service.membership.identity)
    except MalformedMessage:
        octets = None
    if octets is None:
        return envelope, n.NO_KEY
    service.receiver.spare()
    service.receiver.verifications += 1
    try:
        digest = sha256(envelope.to_be_signed).digest()
        yield from unhurried(VerifyingKey(octets).verify(digest, envelope.signature))
    except (NotAuthentic, MalformedMessage):
        return envelope, n.OTHER_KEY
    return envelope, n.NO_REASON


def _refusal(service, envelope):
    kind = service.updates.classes().get(envelope.class_id)
    if kind != envelope.kind or envelope.vendor_id != VENDOR:
        return n.OTHER_CLASS
    return service.updates.state().refusal(kind == FIRMWARE, envelope.number)


def _room(service, envelope):
    try:
        service.updates.room(envelope.kind, envelope.size)
    except OSError as error:
        return _of(error)
    return n.NO_REASON


def _begin(service, envelope, octets, reason):
    if service.collecting or service.updates.state().trial:
        return  # it came on another way as well
    if not reason:
        try:
            parts = envelope.kind, envelope.number, envelope.size, envelope.digest, octets
            collection = service.updates.begin(*parts)
            service.collecting = Collecting(service, envelope, collection)
        except OSError as error:
            reason = _of(error)
    if reason:
        service.end(envelope.update_id, "refused", envelope.number, reason)
        return
    service.tell("update", {"state": "collecting", "number": envelope.number, "reason": n.NO_REASON})
    if envelope.update_id != service.offer:
        service.hint()
    elif not service.by_air:
        service.step_at = service.clock.now() + tuning.UPDATE_PULL_GAP


def _of(error):
    return n.NO_ROOM if error.args[:1] == (_ENOSPC,) else n.FLASH_FAILED
