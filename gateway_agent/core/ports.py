"""The interfaces through which the core uses what is outside of it. `gateway_agent/app.py` names the concrete parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cpns import errors, numbers

RandomOctets = Callable[[int], bytes]
"""A function that returns n octets from the operating system's generator, as `secrets.token_bytes` does."""


class NoAnswer(errors.CpnsError):
    """The peer has no session, cannot be reached, or did not answer in time."""

    code = numbers.ERROR_NO_SESSION


class NotUnderstood(NoAnswer):
    """The peer has a session and answered that the request is no message to it, as one of an earlier release may."""


class Uplink(Protocol):
    """The secure session with the CPNS Server (CPNS-GKM-50)."""

    async def request(self, message: bytes) -> bytes:
        """Send one CPNS message and return the Server's answer, b"" if it is empty. Raises NoAnswer, NotUnderstood."""
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
        """Forget the session with this PNE and everything that is queued for it (SEC-06)."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """The time that a broadcast costs on one medium that is up, next to that of a unicast on the same radio.

    `round_s`: seconds on the air to send each of some datagrams once; `unicast_s`: seconds that a unicast to one PNE
    needs before its first octet, 0 where sessions need no connection.
    """

    round_s: float
    unicast_s: float


class Broadcast(Protocol):
    """Some datagrams that are being broadcast."""

    @property
    def has_gone_out(self) -> bool:
        """True when at least one of the datagrams has been sent on at least one medium."""
        ...

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the media that have sent at least one of the datagrams, such as "wifi"."""
        ...

    def stop(self) -> None:
        """End the broadcast: no datagram is sent after this call (SEC-38). Does nothing if it has ended already."""
        ...


class Air(Protocol):
    """All broadcast media of the PN GW together, with all repetition on them (CPNS-GKM-71). It may have no medium."""

    def costs(self, sizes: Sequence[int]) -> list[Cost]:
        """Return the cost of airing datagrams of these sizes once, for each medium that is up. `sizes` is in octets."""
        ...

    def air(self, datagrams: Sequence[bytes], listeners: int, ended: Callable[[], None]) -> Broadcast:
        """Begin to air datagrams, on each medium as many times as that medium requires; return the broadcast.

        `listeners`: how many PNEs are to hear these datagrams for the first time. `ended` is called after this method
        has returned, once all media are done, unless the broadcast is stopped.
        """
        ...

    async def delete(self, datagram: bytes) -> None:
        """Air a signed delete of a Service Group a few times; return when that is done."""
        ...

    def beacon(self, sg_id: str, make: Callable[[], bytes]) -> bool:
        """Air the beacon of a Service Group, which `make` returns.

        Returns False, and airs nothing, if a beacon of the group was aired a short time ago or there is no medium.
        """
        ...

    def follow(self, medium_is_back: Callable[[], None]) -> None:
        """Call `medium_is_back` whenever a medium that could not send may be able to again."""
        ...


class Signer(Protocol):
    """The broadcast signing key (SEC-17: used for nothing else)."""

    @property
    def public_key(self) -> bytes:
        """The public key, x || y, 64 octets."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the ES256 signature of `data` (RFC 9053 section 2.1), r || s, 64 octets."""
        ...


class Clock(Protocol):
    """The only clock that the core reads."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; they never go back while the process runs."""
        ...

    def unix(self) -> int:
        """Return Unix seconds, or 0 while the system clock is not synchronised (SEC-05)."""
        ...


class KeyMessages(Protocol):
    """The part that talks to group management servers for the PNEs that are VAL clients."""

    def seen(self, pne_id: str) -> None:
        """Note that a PNE of this PN has sent something, so it can be reached."""
        ...

    def take(self, pne_id: str, key_message: bytes) -> None:
        """Queue a Key Message of the PNE (docs/protocol.md section 12).

        Raises NotAllowed (the PNE is no VAL client here), MalformedMessage, TooMany.
        """
        ...
