"""Answers the CPNS messages of PN GWs: checks the sender's rights, asks the right part, builds the response.

The session has authenticated the PN GW; every ID inside the message is compared with it. No message under a Group Key
comes here: members and keys are changed over the session only.
"""

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable

from cpns import message_table, uplink_form
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotAuthentic, NotMember
from cpns.uplink_form import Fields
from key_servers.cpns_server.alarms import Refusals
from key_servers.cpns_server.gateway_reports import GatewayReports
from key_servers.cpns_server.group_keys import GroupKeyMaker, activation
from key_servers.cpns_server.membership import JoinResult, MembershipChanges
from key_servers.cpns_server.pne_answers import PneAnswers
from key_servers.cpns_server.pne_requests import PneRequests
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.service_groups import ServiceGroups
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupTrust, MemberReport, Moment, StoredGateway
from key_servers.errors import ServerError
from message_plane.links.mqtt_topics import shard_of

_log = logging.getLogger(__name__)

Carry = Callable[[str, str, bytes], Awaitable[bytes | None]]
"""PN GW ID, PNE ID, datagram of that PNE -> the datagram in answer, None if there is none; may raise TooMany."""

_LINK = re.compile("[a-z0-9-]*")  # it is shown to people; later releases may have other links

_TRUST = {n.TRUST_GATEWAY: GroupTrust.GATEWAY, n.TRUST_END_TO_END: GroupTrust.END_TO_END}


class RequestHandler:
    """Answers by one entry, `handle`, and one method for each request."""

    def __init__(
        self,
        store: ServerStore,
        registry: Registry,
        membership: MembershipChanges,
        service_groups: ServiceGroups,
        keys: GroupKeyMaker,
        reports: GatewayReports,
        pne_answers: PneAnswers,
        pne_requests: PneRequests,
        carry: Carry | None,
        counters: Counter[str],
        creation_by_pnes: bool,
    ) -> None:
        """Keep the parts. `carry` receives datagrams of PNEs, None for a Server that has no sessions with PNEs."""
        self._store = store
        self._registry = registry
        self._membership = membership
        self._service_groups = service_groups
        self._keys = keys
        self._reports = reports
        self._pne_answers = pne_answers
        self._pne_requests = pne_requests
        self._carry = carry
        self._counters = counters
        self._refusals = Refusals(counters)
        self._creation_by_pnes = creation_by_pnes
        self._answers: dict[int, Callable[[StoredGateway, Fields, Moment], Fields]] = {
            n.JOIN_REQUEST: self._join,
            n.LEAVE_REQUEST: self._leave,
            n.CREATE_SERVICE_GROUP_REQUEST: self._create,
            n.DELETE_SERVICE_GROUP_REQUEST: self._delete,
            n.KEY_PULL_REQUEST: self._pull,
            n.DELIVERY_REPORT_REQUEST: self._delivery_report,
            n.VERSION_LIST_REQUEST: self._version_list,
            n.RETIREMENT_REQUEST: self._retirement,
        }

    async def handle(self, gateway_id: str, message: bytes, now: Moment) -> bytes:
        """Answer one message, in its own form. A refusal is a response with Result 2 and an error code.

        An SGroupKeyDeliveryResponse of a PNE, which its PN GW passes on, has an empty answer; if it is refused, the
        answer is such a response too, with Return 2 and an error code.

        What it changes is on the medium when the answer is there; nothing else happens between question and change.

        Raises MalformedMessage, or NotAllowed for a PN GW that may not speak, a foreign PN ID, or a message that no
        PN GW sends: these never were requests to this Server (SEC-15, SEC-16). CpnsError if it cannot be told.
        """
        try:
            code, fields = uplink_form.decode(message)
            gateway = self._registry.speaking(gateway_id)
            if code not in self._answers and code not in (n.S_GROUP_KEY_DELIVERY_RESPONSE, n.TUNNEL_REQUEST):
                raise NotAllowed(f"message {code} is not for the CPNS Server")
            if {fields.get(label, gateway.pn_id) for label in (m.PN_ID, m.PNID)} != {gateway.pn_id}:
                raise NotAllowed("this PN GW does not serve that PN")
        except CpnsError as error:
            kind = "malformed" if isinstance(error, MalformedMessage) else "foreign"
            self._refusals.count(kind, "message", gateway_id, error, now)
            raise
        except ServerError as error:  # whether the PN GW may speak cannot be read, so it asks again
            trouble = self._trouble(error)
            if code == n.S_GROUP_KEY_DELIVERY_RESPONSE:
                raise trouble from None
            return uplink_form.encode(code + 1, _failure(trouble), uplink_form.form_of(message))
        self._counters["messages_taken"] += 1
        form = uplink_form.form_of(message)
        if code == n.S_GROUP_KEY_DELIVERY_RESPONSE:
            return self._pne_answer(gateway, fields, form, now)
        try:
            if code == n.TUNNEL_REQUEST:
                answer = await self._tunnel(gateway, fields)
            else:
                answer = self._store.attempt(lambda: self._answer(code, gateway, fields, now))
            if code == n.DELIVERY_REPORT_REQUEST:
                await self._reports.written()
        except CpnsError as error:
            self._refusals.count("refused", _named(code, fields), gateway_id, error, now)
            return uplink_form.encode(code + 1, _failure(error), form)
        except ServerError as error:  # nothing was written, so the PN GW asks again
            return uplink_form.encode(code + 1, _failure(self._trouble(error)), form)
        return uplink_form.encode(code + 1, {m.RESULT: n.RESULT_SUCCESS, **answer}, form)

    def _answer(self, code: int, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        # Of two processes the one that lost the PN GW may come late, and must not undo what it asked the other one.
        self._store.require_shard(shard_of(gateway.gateway_id))
        return self._answers[code](gateway, fields, now)

    def _pne_answer(self, gateway: StoredGateway, fields: Fields, form: str, now: Moment) -> bytes:
        try:
            self._pne_answers.take(gateway, fields, now)
        except CpnsError as error:
            kind = "forged" if isinstance(error, NotAuthentic) else "refused"
            what = _named(n.S_GROUP_KEY_DELIVERY_RESPONSE, fields)
            self._refusals.count(kind, what, gateway.gateway_id, error, now)
            failure = _failure(error)
        except ServerError as error:  # the key is sent again
            failure = _failure(self._trouble(error))
        else:
            return b""
        del failure[m.RESULT]
        failure |= {m.RETURN: n.RETURN_FAIL, m.PNID: gateway.pn_id}
        return uplink_form.encode(n.S_GROUP_KEY_DELIVERY_RESPONSE, failure, form)

    def _trouble(self, error: ServerError) -> CpnsError:
        """Tell the operator, and only the operator, why the store failed; return what the PN GW is told."""
        _log.error("KC2030 %s", error)
        self._counters["messages_failed"] += 1
        return CpnsError("the CPNS Server cannot work now; try again later")

    def _join(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        joined = self._membership.join(gateway, fields[m.PNE_ID], fields[m.SG_ID], _trust(fields), now)
        return _joined(gateway, fields, joined, now)

    def _create(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        if not self._creation_by_pnes:
            raise NotAllowed("Service Groups are created by the operator only")
        joined = self._service_groups.create_by_pne(
            gateway, fields[m.PNE_ID], fields[m.SG_ID], fields.get(m.PROTECTION), _trust(fields), now
        )
        return _joined(gateway, fields, joined, now)

    def _leave(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        revision = self._membership.leave(gateway, fields[m.PNE_ID], fields[m.SG_ID], now)
        return {m.SG_ID: fields[m.SG_ID], m.REVISION: revision}

    def _delete(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        if m.PNE_ID not in fields:
            raise NotAllowed("only the owner of a Service Group may delete it, and the message names no board")
        self._service_groups.delete_by_pne(gateway, fields[m.PNE_ID], fields[m.SG_ID], now)
        return {m.SG_ID: fields[m.SG_ID]}

    def _pull(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        sg_id = fields[m.SG_ID]
        # Membership is that of this moment, not of when the session was made (SEC-06).
        if not self._store.members_in(sg_id, gateway.pn_id):
            raise NotMember(f"PN {gateway.pn_id} has no member in Service Group {sg_id}")
        group = self._store.group(sg_id)
        end_to_end = group is not None and group.trust is GroupTrust.END_TO_END  # its key is for no PN GW (SEC-26)
        if end_to_end and m.PNE_ID in fields:
            self._registry.must_be_bound([fields[m.PNE_ID]], gateway.pn_id)
            return self._pne_requests.pull(fields[m.PNE_ID], fields, now)
        key = self._keys.newest(sg_id, now, gateway.pn_id)
        answer: Fields = {m.SG_ID: sg_id, m.VERSION: key.version, m.TIME: now.unix}
        if end_to_end:
            return answer
        self._keys.windows_lost(key, fields.get(m.WINDOWS_LOST), now)
        if fields[m.VERSION] < key.version:
            answer[m.GROUP_KEY] = [(key.key, None)]
            answer[m.ACTIVATION] = activation(key, now)
            answer[m.REASON] = key.reason
        return answer

    async def _tunnel(self, gateway: StoredGateway, fields: Fields) -> Fields:
        if self._carry is None:
            raise NotAllowed("this CPNS Server is embedded: boards have no session with it")
        pne_id = fields[m.PNE_ID]
        self._registry.must_be_bound([pne_id], gateway.pn_id)  # its session proves the PNE, but a flood needs none
        self._counters["datagrams_carried"] += 1
        answer = await self._carry(gateway.gateway_id, pne_id, fields[m.DATAGRAM])
        return {} if answer is None else {m.DATAGRAM: answer}

    def _delivery_report(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        self._reports.delivery(gateway, fields[m.SG_ID], fields[m.VERSION], _reports(fields))
        return {m.SG_ID: fields[m.SG_ID]}

    def _version_list(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        entries = self._reports.version_list(gateway, fields.get(m.VERSION_ENTRY, []), now)
        return {m.VERSION_ENTRY: entries} if entries else {}

    def _retirement(self, gateway: StoredGateway, fields: Fields, now: Moment) -> Fields:
        self._membership.end_rights(gateway, fields[m.PNE_ID], now)
        return {}


def _joined(gateway: StoredGateway, fields: Fields, joined: JoinResult, now: Moment) -> Fields:
    answer: Fields = {
        m.SG_ID: fields[m.SG_ID],
        m.VERSION: joined.floor,
        m.PROTECTION: joined.protection,
        m.PN_ID: gateway.pn_id,
        m.TIME: now.unix,
        m.REVISION: joined.revision,
    }
    if joined.trust is GroupTrust.END_TO_END:  # PN GWs of before know ordinary groups only, and not this field
        answer[m.TRUST] = n.TRUST_END_TO_END
    return answer


def _reports(fields: Fields) -> list[MemberReport]:
    """Return what a delivery report says of each PNE. PN GWs of before have lists of names only (m.DELIVERY)."""
    told = {pne_id: (link or "", tries, time or 0) for pne_id, link, tries, time in fields.get(m.DELIVERY, [])}
    if not all(_LINK.fullmatch(link) for link, _, _ in told.values()):
        raise MalformedMessage("a link is a word of lower-case letters, digits and hyphens")
    lists = (("confirmed", m.CONFIRMED), ("unreachable", m.UNREACHABLE), ("excluded", m.EXCLUDED))
    reports = [
        MemberReport(pne_id, outcome, *told.pop(pne_id, ("", 0, 0)))
        for outcome, of in lists
        for pne_id in fields.get(of, [])
    ]
    if told:
        raise MalformedMessage("a Delivery is about a board that is in no list of the report")
    return reports


def _trust(fields: Fields) -> GroupTrust | None:
    return _TRUST.get(fields.get(m.TRUST, 0))


def _named(code: int, fields: Fields) -> str:
    """Return a message in words: its name, and the board that it is about if it is about one."""
    pne_id = fields.get(m.PNE_ID, "")
    return f"{message_table.name(code)} for board {pne_id!r}" if pne_id else message_table.name(code)


def _failure(error: CpnsError) -> Fields:
    # `failure` cuts the text to what a message may carry.
    _, fields = uplink_form.decode(m.failure(n.JOIN_REQUEST, error))
    return fields
