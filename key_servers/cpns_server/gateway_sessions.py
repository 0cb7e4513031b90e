"""The Server's end of the message plane: sessions with PN GWs (role server, responder)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from cpns.errors import NotAllowed
from key_servers.cpns_server import tuning
from key_servers.cpns_server.courier import GatewaySilent, NotSent
from key_servers.cpns_server.database import RESTORE_BACKUP
from key_servers.errors import ServerError, StoreUnusable
from message_plane import credentials, errors
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.credentials import ROLE_GATEWAY, Credential
from message_plane.endpoint import Endpoint, Peer
from message_plane.identity import OwnIdentity
from message_plane.links.link import Link
from message_plane.session_store import SessionStore
from private_store import files

Handle = Callable[[str, bytes], Awaitable[bytes]]

IDENTITY_FILE = "identity.json"
SESSIONS_FILE = "sessions.sqlite3"


class GatewaySessions:
    """The Server's key, and the way to PN GWs that have a session; `open` listens."""

    def __init__(self, state_dir: Path, entity_id: str, counters: Counter[str]) -> None:
        """Load or make the Server's key. Raises ServerError (it has another name)."""
        path = state_dir / IDENTITY_FILE
        self.identity = OwnIdentity.kept(path, entity_id, "server", RESTORE_BACKUP)
        if self.identity.entity_id != entity_id:
            raise ServerError(
                f"{path} belongs to {self.identity.entity_id}, the configuration says {entity_id}.",
                "Put the old name back: PN GWs know this key by it.",
            )
        self._state_dir = state_dir
        self._counters = counters
        self._sessions: SessionStore
        self._endpoint: Endpoint

    async def open(self, links: Sequence[Link[Any]], handle: Handle, alive: Callable[[str], None]) -> None:
        """Listen on `links`. `handle` is called with the PN GW's authenticated ID and its message.

        `alive` is called with the ID of a PN GW that sent an empty message, a sign of life: the session has its address
        then. Raise the errors of `Endpoint.open`.
        """

        async def take(peer: Peer, message: bytes) -> bytes:
            if not message:
                alive(peer.entity_id)
                return b""
            return await handle(peer.entity_id, message)

        self._sessions = SessionStore(self._state_dir / SESSIONS_FILE, RESTORE_BACKUP)
        try:
            self._endpoint = await Endpoint.open(
                identity=self.identity,
                store=self._sessions,
                resources={ROLE_GATEWAY: {PATH: uplink_resource(take)}},
                links=links,
                counters=self._counters,
                requests_max=tuning.PLACES,
            )
        except BaseException:
            self._sessions.close()
            raise

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

    def would_replace(self, gateway_id: str, credential: bytes, *, replace: bool) -> bool:
        """Return True if `register` would end sessions of another key of that PN GW.

        Raises as `register` does, and changes nothing.
        """
        try:
            parsed = _parsed(gateway_id, credential)
            changes = self._sessions.require_bindable(parsed, replace=replace, reserved=(self.identity.entity_id,))
            return changes and self._sessions.credential(gateway_id) is not None
        except errors.PlaneError as error:
            raise NotAllowed(str(error)) from error

    def register(self, gateway_id: str, credential: bytes, *, replace: bool = False) -> None:
        """Accept sessions of `gateway_id` with this credential (CCS octets, docs/protocol.md section 2).

        With `replace` it takes the place of another key too, whose sessions are then over (SEC-31). Raise NotAllowed
        when the credential names another PN GW, the name is taken, or the key is bound to another name.
        """
        try:
            parsed = _parsed(gateway_id, credential)
            self._sessions.bind(parsed, replace=replace, reserved=(self.identity.entity_id,))
        except errors.PlaneError as error:
            raise NotAllowed(str(error)) from error

    async def forget(self, gateway_id: str) -> None:
        """End the sessions of a PN GW and refuse its credential from now on (SEC-18)."""
        self._sessions.unregister(gateway_id)
        await self._endpoint.drop(gateway_id)

    async def end_sessions(self) -> None:
        """End all sessions, keep the credentials: the store of this Server is an older copy (SEC-23)."""
        # All at once, which needs few commits, however many sessions there are.
        await asyncio.gather(*(self._endpoint.drop(credential.entity_id) for credential in self._sessions.registered()))

    def images(self) -> dict[str, bytes]:
        """Return the files of this end that a backup holds: the Server's key, and registrations without sessions."""
        return {
            IDENTITY_FILE: files.read(self._state_dir / IDENTITY_FILE, StoreUnusable),
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


def _parsed(gateway_id: str, credential: bytes) -> Credential:
    parsed = credentials.parse(credential, "gateway")
    if parsed.entity_id != gateway_id:
        raise NotAllowed(f"the credential is that of {parsed.entity_id}, not of {gateway_id}")
    return parsed
