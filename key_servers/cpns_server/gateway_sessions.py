"""The Server's end of the message plane (role server, responder): sessions with PN GWs, and with PNEs through them.

A PNE comes through the tunnel of its PN GW, which cannot read what it carries (SEC-25).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpns.errors import CpnsError, NotAllowed, TooMany
from key_servers.cpns_server import tuning
from key_servers.cpns_server.databases import SESSIONS_FILE
from key_servers.cpns_server.entity_user_keys import EUK_LEN, EXPORTER_LABEL
from key_servers.cpns_server.gateway_presence import GatewayPresence
from key_servers.cpns_server.gateway_requests import GatewaySilent, NotSent
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from key_servers.errors import ServerError, StoreFailed
from message_plane import credentials, errors
from message_plane.clock import monotonic
from message_plane.cpns_resource import PATH, board_resource, uplink_resource
from message_plane.credentials import ROLE_GATEWAY, ROLE_PNE, Credential
from message_plane.endpoint import Endpoint, Peer
from message_plane.identity import OwnIdentity
from message_plane.lease import Lease
from message_plane.links.link import Link
from message_plane.links.mqtt_topics import shard_of
from message_plane.links.tunnel import TunnelLink
from message_plane.rate import Buckets
from message_plane.session_store import SessionStore
from message_plane.vouched import Vouched

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handlers:
    """What is called with what PN GWs and PNEs send.

    `handle` with a PN GW's authenticated ID and its message. `alive` with the ID of a PN GW that sent an empty message,
    a sign of life: the session has its address then; and with that of one that seems to be back, of which there is no
    proof. `handle_pne` with a PNE's ID, the Entity User Key of its session (None if an earlier process made that), its
    message, an empty one too, and the shard of the session (None if there are no shards). Sessions of PNEs for which
    `has_key` returns False end, so that they make new ones: an earlier process ended between the commit of such a
    session and that of its Entity User Key, which only a handshake can give.
    """

    handle: Callable[[str, bytes], Awaitable[bytes]]
    alive: Callable[[str], None]
    handle_pne: Callable[[str, bytes | None, bytes, int | None], bytes]
    has_key: Callable[[str], bool]


class GatewaySessions:
    """The Server's key, and the way to PN GWs that have a session; `open` listens, also to PNEs behind PN GWs.

    A name belongs to a PN GW or to a PNE, and every credential comes from an operator (SEC-16, SEC-31).
    """

    def __init__(self, identity: OwnIdentity, counters: Counter[str], open_store: Callable[[], SessionStore]) -> None:
        """`identity`: the Server's key; `open_store` opens the store of the sessions."""
        self.identity = identity
        self.counters = counters
        self._open_store = open_store
        self._rates = Buckets(*tuning.MESSAGES_PER_GATEWAY, tuning.GATEWAYS_COUNTED)
        self._tunnel = TunnelLink()
        self.carry = self._tunnel.carry
        self._sessions: SessionStore
        self._endpoint: Endpoint
        self._ending: asyncio.Task[None] | None = None

    async def open(
        self,
        links: Sequence[Link[Any]],
        mqtt: "MqttLink | None",
        handlers: Handlers,
    ) -> None:
        """Listen on `links`, and on `mqtt` if there are brokers. Raise the errors of `Endpoint.open`."""

        async def take(peer: Peer, message: bytes) -> bytes:
            if not self._rates.take(peer.entity_id, monotonic()):
                self.counters["messages_limited"] += 1
                raise TooMany("too many messages; send the rest later")
            if not message:
                handlers.alive(peer.entity_id)
                return b""
            return await handlers.handle(peer.entity_id, message)

        async def take_of_pne(peer: Peer, message: bytes) -> bytes:
            try:
                euk, shard = self._entity_user_key(peer), self._endpoint.shard_of(peer)
                return handlers.handle_pne(peer.entity_id, euk, message, shard)
            except ServerError as error:
                _log.error("KC2025 %s", error)
                raise CpnsError("the CPNS Server cannot work now; try again later") from None

        self._mqtt = mqtt
        self._presence = GatewayPresence(mqtt, self._heard_at)
        self._has_key = handlers.has_key
        self._sessions = self._open_store()
        if mqtt is not None:
            mqtt.hints = self._hints(mqtt, handlers.alive)
        try:
            self._endpoint = await Endpoint.open(
                identity=self.identity,
                store=self._sessions,
                resources={
                    ROLE_GATEWAY: {PATH: uplink_resource(take)},
                    ROLE_PNE: {PATH: board_resource(take_of_pne)},
                },
                links=[*links, *filter(None, [mqtt]), self._tunnel],
                counters=self.counters,
                requests_max=tuning.PLACES,
                shard_of=shard_of,
            )
        except BaseException:
            self._sessions.close()
            raise
        await self._end_sessions_without_key(self._endpoint.entities())

    # Shards (`shards.holding.ShardUser`)

    async def adopt(self, leases: Sequence[Lease]) -> None:
        """Use the sessions of these shards. Raises StoreFailed."""
        try:
            present = self._endpoint.entities()
            for lease in leases:
                await self._endpoint.adopt(lease)
            await self._end_sessions_without_key(self._endpoint.entities() - present)
        except errors.PlaneError as error:
            raise StoreFailed(str(error)) from error

    async def let_go(self, leases: Sequence[Lease]) -> None:
        """Stop to use the sessions of these shards."""
        for lease in leases:
            await self._endpoint.let_go(lease)

    def ready(self, gateway_id: str) -> Awaitable[None] | None:
        """Return None if a request to the PN GW can be sent now, else what returns once it can (`GatewayPresence`)."""
        return self._presence.ready(gateway_id)

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one message over the session.

        Raises GatewaySilent, NotSent (the sessions cannot be used now), NotAllowed (the PN GW answered with an error).
        """
        try:
            return await self._endpoint.request(gateway_id, message, resource=PATH, timeout_s=tuning.ANSWER_TIMEOUT_S)
        except errors.PeerRefused as error:
            raise NotAllowed(str(error)) from error
        except (errors.LeaseLost, errors.StoreError) as error:
            raise NotSent(str(error)) from error
        except errors.PlaneError as error:
            raise GatewaySilent(str(error)) from error

    def would_replace(self, entity_id: str, credential: bytes, *, role: str = ROLE_GATEWAY, replace: bool) -> bool:
        """Return True if `register` would end sessions of another key of that PN GW or PNE.

        Raises as `register` does, and changes nothing.
        """
        with _refusing():
            parsed = _parsed(entity_id, credential, role)
            changes = self._sessions.require_bindable(parsed, replace=replace, reserved=(self.identity.entity_id,))
            return changes and self._sessions.credential(entity_id) is not None

    def knows_pne(self, pne_id: str) -> bool:
        """Return True if a credential of that PNE is accepted. Raises StoreFailed."""
        try:
            credential = self._sessions.credential(pne_id)
        except errors.PlaneError as error:
            raise StoreFailed(str(error)) from error
        return credential is not None and credential.role == ROLE_PNE

    def register(self, entity_id: str, credential: bytes, *, role: str = ROLE_GATEWAY, replace: bool = False) -> None:
        """Accept sessions of a PN GW or PNE with this credential (CCS octets, docs/protocol.md section 2).

        With `replace` it takes the place of another key too, whose sessions are then over (SEC-31). Raise NotAllowed
        when the credential names another entity, the name is taken, or the key is bound to another name.
        """
        with _refusing():
            parsed = _parsed(entity_id, credential, role)
            self._sessions.bind(parsed, replace=replace, reserved=(self.identity.entity_id,))

    async def forget(self, gateway_id: str) -> None:
        """End the sessions of a PN GW and refuse its credential from now on (SEC-18)."""
        self._sessions.unregister(gateway_id)
        await self._endpoint.drop(gateway_id)

    def forget_pne(self, pne_id: str) -> None:
        """End the sessions of a PNE and refuse its credential from now on. A name of another role keeps what it has.

        They are over on return, and on the medium a moment later. Raises StoreFailed.
        """
        if not self.knows_pne(pne_id):
            return
        try:
            self._sessions.unregister(pne_id)
            self._endpoint.drop(pne_id)
        except errors.PlaneError as error:
            raise StoreFailed(str(error)) from error

    async def end_sessions(self) -> None:
        """End all sessions, keep the credentials: the store of this Server is an older copy (SEC-23).

        Those of other processes end when they hear of it. PN GWs at brokers are told to make new ones. Raises
        StoreFailed.
        """
        try:
            await asyncio.to_thread(self._sessions.discard_contexts)
            await self._endpoint.reconcile()
        except errors.PlaneError as error:
            raise StoreFailed(str(error)) from error
        if self._mqtt is not None:
            self._mqtt.say_here()

    def end_sessions_soon(self) -> None:
        """Do the same, and if it cannot be done now, again until it is."""
        self._ending = asyncio.create_task(self._end_sessions(), name="ends all sessions")

    def images(self) -> dict[str, bytes]:
        """Return the files of this end that a backup holds: the Server's key, and registrations without sessions."""
        return {
            IDENTITY_FILE: self.identity.octets(),
            SESSIONS_FILE: self._sessions.image(),
        }

    def credential(self) -> bytes:
        """Return the Server's own CCS octets."""
        return self.identity.credential.ccs

    @property
    def places(self) -> list[str]:
        """The places where the Server listens (`Endpoint.places`)."""
        return self._endpoint.places

    @property
    def commits(self) -> int:
        """The number of synced transactions in the store of the sessions."""
        return self._endpoint.commits

    @property
    def failed(self) -> asyncio.Future[Exception]:
        """A future that is done when another process has the sessions and nothing can be sent any more (SEC-23)."""
        return self._endpoint.failed

    async def close(self) -> None:
        """Stop listening."""
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)
        await self._endpoint.close()
        self._sessions.close()

    async def _end_sessions(self) -> None:
        while True:
            try:
                return await self.end_sessions()
            except StoreFailed as error:
                _log.warning("KC2026 the sessions of before cannot be ended now: %s", error)
            await asyncio.sleep(tuning.STORE_LOOK_S)

    def _hints(self, mqtt: "MqttLink", alive: Callable[[str], None]) -> Callable[[str, bool], None]:
        vouched = Vouched(self._sessions)

        def hinted(place: str, present: bool) -> None:
            with suppress(errors.StoreError):  # a hint may be lost
                name = vouched.name(mqtt, place) if present else None
                if name is not None:
                    alive(name)

        return hinted

    def _heard_at(self, gateway_id: str) -> str:
        heard = self._endpoint.last_heard(gateway_id)
        return "" if heard is None else heard.place

    async def _end_sessions_without_key(self, entity_ids: Iterable[str]) -> None:
        pnes = [entity_id for entity_id in entity_ids if self.knows_pne(entity_id)]
        await asyncio.gather(*(self._endpoint.drop(pne_id) for pne_id in pnes if not self._has_key(pne_id)))

    def _entity_user_key(self, peer: Peer) -> bytes | None:
        try:
            return self._endpoint.export(peer, EXPORTER_LABEL, EUK_LEN)
        except errors.NoSession:
            return None
        except errors.PlaneError as error:
            raise StoreFailed(str(error)) from error


def _parsed(entity_id: str, credential: bytes, role: str) -> Credential:
    parsed = credentials.parse(credential, role)
    if parsed.entity_id != entity_id:
        raise NotAllowed(f"the credential is that of {parsed.entity_id}, not of {entity_id}")
    return parsed


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn an error of the message plane into a NotAllowed with the same sentence."""
    try:
        yield
    except errors.PlaneError as error:
        raise NotAllowed(str(error)) from error
