"""The door of the message plane: one UDP endpoint with CoAP, EDHOC and OSCORE for one entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from message_plane.credentials import Credential
from message_plane.identity import OwnIdentity


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a verified request: taken from the credential that authenticated, never from a message.

    `provisional`: an unregistered peer of an open pairing window; it reaches the pairing handler only.
    """

    entity_id: str
    role: str
    provisional: bool = False


# Takes a verified peer and one CPNS message; gives the answer's octets, or None for an empty 2.04.
# Of the errors in cpns.errors MalformedMessage becomes 4.00, TooMany 4.29, every other 4.03.
Handler = Callable[[Peer, bytes], Awaitable[bytes | None]]


class Endpoint:
    """Sessions, requests and the handler of one entity. Made by `open`, ended by `close`."""

    @classmethod
    async def open(
        cls,
        *,
        identity: OwnIdentity,
        store: object,
        handler: Handler,
        bind: Sequence[tuple[str, int]],
        counters: Counter[str] | None = None,
    ) -> Endpoint:
        """Take the lease of `store`, bind every (address, port) of `bind`, answer from then on.

        Raises PortInUse, LeaseHeld, StoreError.
        """
        raise NotImplementedError

    async def request(self, entity_id: str, payload: bytes, *, timeout_s: float = 30.0) -> bytes:
        """Send one CPNS message to `entity_id` over its session; return the answer's payload, perhaps empty.

        Raises NoSession, PeerUnreachable, PeerRefused, LeaseLost.
        """
        raise NotImplementedError

    async def connect(self, entity_id: str, host: str, port: int = 5683) -> None:
        """Make a session as EDHOC initiator with the registered `entity_id` at `host`, if there is none.

        The address is kept: a later `request` makes the session anew, once, when the peer has lost it.
        Raises HandshakeFailed, PeerUnreachable, PeerRefused, LeaseLost.
        """
        raise NotImplementedError

    def has_session(self, entity_id: str) -> bool:
        """True while a session with `entity_id` can be used."""
        raise NotImplementedError

    async def drop(self, entity_id: str) -> None:
        """End every session with `entity_id` now, in memory and on disk (SEC-06)."""
        raise NotImplementedError

    def export(self, entity_id: str, label: int, length: int) -> bytes:
        """EDHOC_Exporter(label, '', length) of the peer's newest handshake in this process. Raises NoSession."""
        raise NotImplementedError

    def open_pairing(self, accept: Callable[[Credential], bool], handler: Handler, *, duration_s: float = 300) -> None:
        """Let unregistered PNEs in for `duration_s` seconds, credentials by value, to `handler` only (SEC-20)."""
        raise NotImplementedError

    def close_pairing(self) -> None:
        """Close the window; provisional sessions end with it."""
        raise NotImplementedError

    async def admit(self, entity_id: str) -> None:
        """Register the provisional peer `entity_id` as PNE; its session becomes an ordinary one. Raises
        RegistrationRefused, NoSession."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop answering, cancel what runs, give the lease back."""
        raise NotImplementedError
