"""The events of a PN GW that a person may want to see: frozen values without a secret.

The core passes each event to one function of type `Tell`, after the change was stored. That function decides what
becomes of it; `gateway_agent.event_log` makes it a line of the log.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paired:
    """A board has proved that it knows the pairing secret, and was admitted to the PN (SEC-20)."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A board was provisioned by a person and was admitted to the PN."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class Runs:
    """A board has reported another version of its agent than before."""

    pne_id: str
    software: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A board is a new member of a Service Group."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Left:
    """A board has left a Service Group at its own request."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Removed:
    """The Server's list of members does not name a board any more: it was expelled, or moved to another PN."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A board no longer belongs to this PN.

    `exposed`: SG IDs of the groups whose present key it knows and other boards of this PN use.
    """

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
class BroadcastSent:
    """A Group Key has gone out by broadcast, on `networks`: names of media, such as "wifi"."""

    sg_id: str
    version: int
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyConfirmed:
    """A board holds a version of a Group Key: it came by `link`, a word of `cpns.delivery_report`, after `tries`."""

    pne_id: str
    sg_id: str
    version: int
    link: str
    tries: int


@dataclass(frozen=True, slots=True)
class BoardUnreachable:
    """A board could not be sent a version of a Group Key; it gets it when it asks, or by a broadcast."""

    pne_id: str
    sg_id: str
    version: int


@dataclass(frozen=True, slots=True)
class KeyDelivered:
    """The delivery of a version has finished: `confirmed` of `members` boards hold it.

    `by_broadcast`: how many of the confirmed boards got it by broadcast; `seconds`: time since the delivery began in
    this process; `missing`: PNE IDs of the boards that have not confirmed it.
    """

    sg_id: str
    version: int
    confirmed: int
    members: int
    by_broadcast: int
    seconds: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeysWithheld:
    """No key is given out any more, because the CPNS Server was silent for so many `seconds` (SEC-28)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KeysResumed:
    """The CPNS Server has answered again, and keys are given out again."""


@dataclass(frozen=True, slots=True)
class GroupDeleted:
    """The Server has deleted a Service Group; this PN GW has erased its keys."""

    sg_id: str


@dataclass(frozen=True, slots=True)
class RolledOver:
    """The broadcast signing key was replaced (SEC-18)."""

    signing_epoch: int


@dataclass(frozen=True, slots=True)
class AlarmBegan:
    """An alarm of a `kind` (`core.alarms`) begins. `about`: the network that it is about, "" for none."""

    kind: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class AlarmEnded:
    """The cause of an alarm has ended."""

    kind: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class UplinkUp:
    """The CPNS Server elsewhere answers."""


@dataclass(frozen=True, slots=True)
class UplinkDown:
    """The CPNS Server elsewhere does not answer any more. `problem` says why, in words."""

    problem: str


@dataclass(frozen=True, slots=True)
class PairingOpened:
    """A pairing window is open for a board, until the Unix time `until` at the latest (SEC-20)."""

    pne_id: str
    until: int


@dataclass(frozen=True, slots=True)
class PairingEnded:
    """A pairing window has closed. `outcome`: "in", "refused", "run out" or "cancelled"."""

    pne_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class GmkArrived:
    """The GMS of a VAL user has sent the user a group master key.

    `key_id`: the GMK-ID in hexadecimal digits, which is public.
    """

    user: str
    key_id: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GmkRevoked:
    """The GMS of a VAL user has revoked a group master key."""

    user: str
    key_id: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """A person offers an update to boards. `update_id`: in hexadecimal digits; `image_kind`: "agent" or "firmware".

    `boards` and `groups`: PNE IDs, and SG IDs of the groups whose members it is for; all boards if both are empty.
    `sealed_for`: SG ID of the group whose members alone can read the broadcast, "" for none.
    """

    update_id: str
    image_kind: str
    update_number: int
    boards: tuple[str, ...]
    groups: tuple[str, ...]
    is_broadcast: bool
    sealed_for: str


@dataclass(frozen=True, slots=True)
class UpdateWithdrawn:
    """A person offers an update no more."""

    update_id: str
    image_kind: str
    update_number: int


@dataclass(frozen=True, slots=True)
class UpdateAired:
    """An update has been broadcast to its end. Boards that miss something ask for it now."""

    update_id: str
    image_kind: str
    update_number: int


@dataclass(frozen=True, slots=True)
class BoardUpdated:
    """A board has confirmed an update: it reached this PN GW with it."""

    pne_id: str
    image_kind: str
    update_number: int


@dataclass(frozen=True, slots=True)
class BoardFellBack:
    """A board went back from the update `update_number` to what it ran before; `problem` says why, in words."""

    pne_id: str
    update_number: int
    problem: str


@dataclass(frozen=True, slots=True)
class BoardRefused:
    """A board does not take the update `update_number`; `problem` says why, in words."""

    pne_id: str
    update_number: int
    problem: str


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
    | BroadcastSent
    | KeyConfirmed
    | BoardUnreachable
    | KeyDelivered
    | KeysWithheld
    | KeysResumed
    | GroupDeleted
    | RolledOver
    | AlarmBegan
    | AlarmEnded
    | UplinkUp
    | UplinkDown
    | PairingOpened
    | PairingEnded
    | GmkArrived
    | GmkRevoked
    | UpdateOffered
    | UpdateWithdrawn
    | UpdateAired
    | BoardUpdated
    | BoardFellBack
    | BoardRefused
)

Tell = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Do nothing with the event: the `Tell` of a core whose events are not read."""
