"""What the core needs from the outside. `gateway_agent/app.py` names the concrete parts."""

from collections.abc import Callable
from typing import Protocol

from cpns import errors, numbers

RandomOctets = Callable[[int], bytes]
"""n -> n octets from the operating system's generator (`secrets.token_bytes`)."""


class NoAnswer(errors.CpnsError):
    """The peer has no session, cannot be reached, or did not answer in time."""

    code = numbers.ERROR_NO_SESSION


class Uplink(Protocol):
    """The secure session with the CPNS Server (CPNS-GKM-50)."""

    async def request(self, message: bytes) -> bytes:
        """Send one CPNS message and return the Server's answer. Raises NoAnswer."""
        ...


class Unicast(Protocol):
    """The secure sessions with the PNEs (CPNS-GKM-50)."""

    async def request(self, pne_id: str, message: bytes) -> bytes | None:
        """Send one CPNS message to the PNE and return its answer, None when it is empty. Raises NoAnswer."""
        ...

    def has_session(self, pne_id: str) -> bool:
        """True if a message could be sent now."""
        ...

    def drop(self, pne_id: str) -> None:
        """Forget the session with this PNE and whatever is queued for it (SEC-06)."""
        ...


class Broadcast(Protocol):
    """All broadcast media of the PN GW together (CPNS-GKM-71)."""

    @property
    def media(self) -> frozenset[str]:
        """Names of the media that can send now: "wifi", "ble"; empty if none."""
        ...

    def send(self, datagram: bytes) -> int:
        """Send once on every medium and interface; return on how many it went out."""
        ...


class Signer(Protocol):
    """The broadcast signing key (SEC-17: used for nothing else)."""

    @property
    def public_key(self) -> bytes:
        """x || y, 64 octets."""
        ...

    def sign(self, data: bytes) -> bytes:
        """ES256 (RFC 9053 section 2.1): r || s, 64 octets."""
        ...


class Clock(Protocol):
    """Time. Nothing in the core reads a clock any other way."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back while the process lives."""
        ...

    def unix(self) -> int:
        """Unix seconds, or 0 while the system clock is not synchronised (SEC-05)."""
        ...


class KeyMessages(Protocol):
    """Those who speak for PNEs that are VAL clients to their group management servers."""

    def seen(self, pne_id: str) -> None:
        """A PNE of this PN has sent something: it is there."""
        ...

    def take(self, pne_id: str, key_message: bytes) -> None:
        """Queue what the PNE said (docs/protocol.md section 12).

        Raises NotAllowed (it is no VAL client here), MalformedMessage, TooMany.
        """
        ...
