"""What the core needs from the outside. `gateway_agent/app.py` names the concrete parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        """Return True if a message could be sent now."""
        ...

    def drop(self, pne_id: str) -> None:
        """Forget the session with this PNE and whatever is queued for it (SEC-06)."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What a medium that is up would cost. `round_s`: seconds on the air for some datagrams, once each.

    `unicast_s`: seconds that a unicast to one PNE takes on the same radio before its first octet; 0 where sessions need
    no connection there.
    """

    round_s: float
    unicast_s: float


class Broadcast(Protocol):
    """Some datagrams on their way out."""

    @property
    def has_gone_out(self) -> bool:
        """True when at least one of them has gone out on at least one medium."""
        ...

    def stop(self) -> None:
        """End it in this call: nothing of the datagrams leaves afterwards (SEC-38). One that has ended stays so."""
        ...


class Air(Protocol):
    """All broadcast media of the PN GW together, and all repetition on them (CPNS-GKM-71). There may be no medium."""

    def costs(self, sizes: Sequence[int]) -> list[Cost]:
        """What airing datagrams of so many octets each, once, costs on each medium that is up; empty if none is."""
        ...

    def air(self, datagrams: Sequence[bytes], listeners: int, ended: Callable[[], None]) -> Broadcast:
        """Air datagrams that so many listeners hear for the first time, on each medium as often as it wants.

        `ended` is called after the return of this method, once all media are done, unless the broadcast is stopped.
        """
        ...

    async def delete(self, datagram: bytes) -> None:
        """Air a signed delete a few times; return when that is done."""
        ...

    def beacon(self, sg_id: str, make: Callable[[], bytes]) -> bool:
        """Air the beacon of a Service Group that `make` returns; False where there was one just now, or no medium."""
        ...

    def follow(self, medium_is_back: Callable[[], None]) -> None:
        """Call `medium_is_back` whenever a medium that could not send may be able to again."""
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
