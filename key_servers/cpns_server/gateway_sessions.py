"""The Server's end of the message plane (role server, responder): sessions with PN GWs, and with PNEs through them.

A PNE comes through the tunnel of its PN GW, which cannot read what it carries (SEC-25).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpns.errors import CpnsError, NotAllowed
from key_servers.cpns_server import tuning
from key_servers.cpns_server.entity_user_keys import EUK_LEN, EXPORTER_LABEL
from key_servers.cpns_server.gateway_presence import GatewayPresence
from key_servers.cpns_server.gateway_requests import GatewaySilent, NotSent
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from key_servers.cpns_server.sqlite_database import RESTORE_BACKUP
from key_servers.errors import ServerError, StoreFailed
from message_plane import credentials, errors
from message_plane.cpns_resource import PATH, board_resource, uplink_resource
from message_plane.credentials import ROLE_GATEWAY, ROLE_PNE, Credential
from message_plane.endpoint import Endpoint, Peer
from message_plane.identity import OwnIdentity
from message_plane.links.link import Link
from message_plane.links.tunnel import TunnelLink
from message_plane.session_file import SessionFile
from message_plane.vouched import Vouched

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink

Handle = Callable[[str, bytes], Awaitable[bytes]]
HandlePne = Callable[[str, bytes | None, bytes], bytes]
"""PNE ID, Entity User Key of its session (None if an earlier process made that), message -> answer."""

_log = logging.getLogger(__name__)

SESSIONS_FILE = "sessions.sqlite3"


class GatewaySessions:
    """The Server's key, and the way to PN GWs that have a session; `open` listens, also to PNEs behind PN GWs.

    A name belongs to a PN GW or to a PNE, and every credential comes from an operator (SEC-16, SEC-31).
    """

    def __init__(self, state_dir: Path, identity: OwnIdentity, counters: Counter[str]) -> None:
        self.identity = identity
        self._state_dir = state_dir
        self._counters = counters
        self._tunnel = TunnelLink()
        self.carry = self._tunnel.carry
        self._sessions: SessionFile
        self._endpoint: Endpoint

    async def open(
        self,
        links: Sequence[Link[Any]],
        mqtt: "MqttLink | None",
        handle: Handle,
        alive: Callable[[str], None],
        handle_pne: HandlePne,
    ) -> None:
        """Listen on `links`, and on `mqtt` if there are brokers. `handle` is called with the PN GW's authenticated ID
        and its message.

        `alive` is called with the ID of a PN GW that sent an empty message, a sign of life: the session has its address
        then. It is called, too, with that of one that seems to be back, of which there is no proof. `handle_pne` is
        called with each message of a PNE, empty ones too. Raise the errors of `Endpoint.open`.
        """

        async def take(peer: Peer, message: bytes) -> bytes:
            if not message:
                alive(peer.entity_id)
                return b""
            return await handle(peer.entity_id, message)

        async def take_of_pne(peer: Peer, message: bytes) -> bytes:
            try:
                return handle_pne(peer.entity_id, self._entity_user_key(peer), message)
            except ServerError as error:
                _log.error("%s", error)
                raise CpnsError("the CPNS Server cannot work now; try again later") from None

        self._presence = GatewayPresence(mqtt, self._heard_at)
        self._sessions = SessionFile(self._state_dir / SESSIONS_FILE, RESTORE_BACKUP)
        if mqtt is not None:
            mqtt.hints = self._hints(mqtt, alive)
        try:
            self._endpoint = await Endpoint.open(
                identity=self.identity,
                store=self._sessions,
                resources={
                    ROLE_GATEWAY: {PATH: uplink_resource(take)},
                    ROLE_PNE: {PATH: board_resource(take_of_pne)},
                },
                links=[*links, *filter(None, [mqtt]), self._tunnel],
                counters=self._counters,
                requests_max=tuning.PLACES,
            )
        except BaseException:
            self._sessions.close()
            raise

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

    async def end_sessions_without(self, has_key: Callable[[str], bool]) -> None:
        """End the sessions of PNEs for which `has_key` returns False, so that they make new ones.

        An earlier process ended between the commit of such a session and that of its Entity User Key, which only a
        handshake can give.
        """
        pnes = [each.entity_id for each in self._sessions.registered() if each.role == ROLE_PNE]
        await asyncio.gather(*(self._endpoint.drop(pne_id) for pne_id in pnes if not has_key(pne_id)))

    async def end_sessions(self) -> None:
        """End all sessions, keep the credentials: the store of this Server is an older copy (SEC-23)."""
        # All at once, which needs few commits, however many sessions there are.
        await asyncio.gather(*(self._endpoint.drop(credential.entity_id) for credential in self._sessions.registered()))

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
        await self._endpoint.close()
        self._sessions.close()

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
