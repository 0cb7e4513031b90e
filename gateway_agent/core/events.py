"""What happens in a PN GW, told where it happens: frozen values without a secret, for whoever shows or keeps them.

The core hands each one to the one function it was given (`Tell`), after it was stored. What it becomes (a line of the
log, see `gateway_agent.event_log`) is no business of the core.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paired:
    """A board has shown that it knows the secret, and is let in (SEC-20)."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A board was provisioned by a person and is let in."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class Runs:
    """A board says that its agent is of another version than before."""

    pne_id: str
    software: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A board is a new member of a Service Group."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Left:
    """A board has left a Service Group at its own wish."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Removed:
    """The Server's list of members names a board no more: expelled, or moved to another PN."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A board is no more of this PN. `exposed`: the Service Groups whose present key it knows."""

    pne_id: str
    cause: str
    exposed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A board joins and leaves too often; a person must release it."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class KeyArrived:
    """The Server has sent a new version of a Group Key. `reason` is one of `cpns.numbers.REASON_*`."""

    sg_id: str
    version: int
    reason: int


@dataclass(frozen=True, slots=True)
class KeyDelivered:
    """The delivery of a version is over: `confirmed` of `members` boards hold it.

    `by_broadcast` of them by a broadcast; `seconds` since it began in this process; `missing`: PNE IDs of the others.
    """

    sg_id: str
    version: int
    confirmed: int
    members: int
    by_broadcast: int
    seconds: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupDeleted:
    """The Server has deleted a Service Group; its keys are erased here."""

    sg_id: str


@dataclass(frozen=True, slots=True)
class RolledOver:
    """The broadcast signing key is a new one (SEC-18)."""

    signing_epoch: int


@dataclass(frozen=True, slots=True)
class GmkArrived:
    """A VAL user's GMS has sent it a group master key. `key_id`: the GMK-ID in hexadecimal digits, which is public."""

    user: str
    key_id: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GmkRevoked:
    """The GMS has revoked a group master key."""

    user: str
    key_id: str
    groups: tuple[str, ...]


Event = (
    Paired
    | Registered
    | Runs
    | Joined
    | Left
    | Removed
    | Retired
    | Held
    | KeyArrived
    | KeyDelivered
    | GroupDeleted
    | RolledOver
    | GmkArrived
    | GmkRevoked
)

Tell = Callable[[Event], None]


def nobody(event: Event) -> None:
    """A `Tell` that does nothing: for a core whose events nobody reads."""
