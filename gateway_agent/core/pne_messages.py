"""Answers the CPNS messages of PNEs: checks the sender, calls the part for the message and builds the response.

The message plane has authenticated the PNE. A PNE ID inside a message must be the one that was authenticated.
"""

from collections import Counter
from collections.abc import Awaitable, Callable

from cpns import messages, numbers
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, TooMany, Unknown
from gateway_agent.core.delivering.confirmations import Confirmations, SlotUnknown, claim
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.delivering.pulls import Pulls
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.end_to_end.tunnel import Tunnel
from gateway_agent.core.fields import Fields, octets, own_id
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.groups.membership import Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.ports import Clock, KeyMessages, Unicast
from gateway_agent.core.rates import PEERS_MAX, REQUESTS
from gateway_agent.core.refusals import refusal
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Buckets

_AFTER_A_START = (numbers.GKDK_ASSIGNMENT_REQUEST, numbers.JOIN_REQUEST, numbers.KEY_PULL_REQUEST)

Answer = dict[int, object]


class PneMessages:
    """Handles the messages of PNEs. The entry is `handle`; messages that one part answers alone go straight to it."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        membership: Membership,
        gkdks: GkdkHandout,
        confirmations: Confirmations,
        deliveries: Deliveries,
        pulls: Pulls,
        versions: Versions,
        housekeeping: Housekeeping,
        tunnel: Tunnel,
        carried: CarriedKeys,
        key_messages: KeyMessages | None,
        unicast: Unicast,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        """`key_messages` is None if no PNE of this PN is a VAL client."""
        self._store = store
        self._membership = membership
        self._gkdks = gkdks
        self._confirmations = confirmations
        self._deliveries = deliveries
        self._versions = versions
        self._housekeeping = housekeeping
        self._carried = carried
        self._key_messages = key_messages
        self._unicast = unicast
        self._clock = clock
        self._counters = counters
        self._requests = Buckets(*REQUESTS, PEERS_MAX)
        self._answers: dict[int, Callable[[str, Fields], Awaitable[Answer | None]]] = {
            numbers.GKDK_ASSIGNMENT_REQUEST: self._gkdk_assignment,
            numbers.GROUP_KEY_DELIVERY_RESPONSE: self._confirmation,
            numbers.JOIN_REQUEST: self._join,
            numbers.CREATE_SERVICE_GROUP_REQUEST: self._create,
            numbers.LEAVE_REQUEST: membership.leave,
            numbers.DELETE_SERVICE_GROUP_REQUEST: membership.delete,
            numbers.KEY_PULL_REQUEST: pulls.answer,
            numbers.KEY_MESSAGE_REQUEST: self._key_message,
            numbers.TUNNEL_REQUEST: tunnel.carry,
        }

    async def handle(self, peer_id: str, message: bytes) -> bytes | None:
        """Return the answer to one message of the PNE whose credential authenticated as `peer_id`; None if it is empty.

        A refusal is a response with Result 2. Raises MalformedMessage (no CPNS message) and NotAllowed (a message that
        a PN GW does not accept, or one that names another PNE). A refused GroupKeyDeliveryResponse or KeyMessageRequest
        has no such response: the reason of the refusal is raised instead.
        """
        try:
            code, fields = messages.decode(message)
            handler = self._answers.get(code)
            if handler is None:
                raise NotAllowed(f"message {code} is not one a board sends to its PN GW")
            if messages.PNE_ID in fields:
                own_id(peer_id, fields)
        except CpnsError:
            self._counters["refused"] += 1
            raise
        if not self._requests.take(peer_id, self._clock.monotonic()):
            self._counters["too_many"] += 1
            return _failure(code, TooMany("too many messages; wait a minute"))
        pne = self._store.pn.pne(peer_id)
        if pne is None:  # its credential is registered, as it has a session
            self._membership.register(peer_id)
        elif pne.retired:  # its session is dropped, but the disk may still hold it after a power cut
            self._counters["refused"] += 1
            return _failure(code, NotAllowed(f"{peer_id} is not of this PN"))
        self._membership.runs(peer_id, fields)
        if code in _AFTER_A_START:
            self._deliveries.began(peer_id)
        try:
            answer = await handler(peer_id, fields)
        except (CpnsError, StoreFailed) as error:
            refused = refusal(error)
            self._counters["refused"] += 1
            if code in (numbers.GROUP_KEY_DELIVERY_RESPONSE, numbers.KEY_MESSAGE_REQUEST):
                raise refused from None
            return bytes(messages.failure(code, refused))
        finally:
            self._deliveries.heard(peer_id)
            self._housekeeping.heard(peer_id)
            self._carried.heard(peer_id)
            if self._key_messages is not None:
                self._key_messages.seen(peer_id)
        return None if answer is None else bytes(messages.encode(code + 1, answer))

    async def send_key_message(self, pne_id: str, key_message: bytes) -> None:
        """Send a Key Message, unread, to a PNE that is a VAL client; return when the PNE has queued it.

        Raises Unknown, NoAnswer (also if the PNE is no VAL client), MalformedMessage.
        """
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.retired:
            raise Unknown(f"there is no board {pne_id}")
        message = messages.encode(numbers.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: key_message})
        answer = await self._unicast.request(pne_id, message)
        if answer is None or messages.decode(answer)[0] != numbers.KEY_MESSAGE_RESPONSE:
            raise MalformedMessage("no KeyMessageResponse answers a KeyMessageRequest")

    async def _gkdk_assignment(self, peer_id: str, fields: Fields) -> Answer:
        return self._gkdks.request(peer_id, fields)

    async def _join(self, peer_id: str, fields: Fields) -> Answer:
        return await self._membership.join(peer_id, numbers.JOIN_REQUEST, fields)

    async def _create(self, peer_id: str, fields: Fields) -> Answer:
        return await self._membership.join(peer_id, numbers.CREATE_SERVICE_GROUP_REQUEST, fields)

    async def _key_message(self, peer_id: str, fields: Fields) -> Answer:
        if self._key_messages is None:
            raise NotAllowed("no board of this PN is a VAL client")
        self._key_messages.take(peer_id, octets(fields, messages.KEY_MESSAGE))
        return {messages.RESULT: numbers.RESULT_SUCCESS}

    async def _confirmation(self, peer_id: str, fields: Fields) -> None:
        claimed = claim(fields)
        sg_id, version = claimed.sg_id, claimed.version
        if self._store.inventory.is_member(sg_id, peer_id):
            self._versions.heard_version(peer_id, sg_id, version)
        try:
            is_proven = self._confirmations.prove(peer_id, claimed)
        except SlotUnknown:
            self._versions.heard_slot(peer_id)
            raise
        if not claimed.accepted:
            self._deliveries.refused(sg_id, version, peer_id)
        elif is_proven:
            self._counters["confirmations"] += 1
            await self._deliveries.confirmed(sg_id, version, peer_id)
        else:
            raise NotAllowed("a broadcast is confirmed with the proof of the slot")


def _failure(code: int, error: CpnsError) -> bytes:
    """Return the response that refuses the message with this error. Raises it where there is no such response."""
    if code == numbers.GROUP_KEY_DELIVERY_RESPONSE:
        raise error
    return bytes(messages.failure(code, error))
