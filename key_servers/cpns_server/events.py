"""The events of a CPNS Server: frozen values without a secret, and the log line of each.

Events of one board (it joins, leaves, confirms) are logged by its PN GW, except what only the Server can know: that it
opened a key of an end-to-end group.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpns.in_words import reason_text, version_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyMade:
    """A new version of a Group Key. `reason` is one of `cpns.numbers.REASON_*`."""

    sg_id: str
    version: int
    reason: int


@dataclass(frozen=True, slots=True)
class KeyOpened:
    """A board of an end-to-end group has proved to have a version, after so many requests (0 = before a restart)."""

    pne_id: str
    sg_id: str
    version: int
    tries: int


@dataclass(frozen=True, slots=True)
class GroupCreated:
    """An operator has made a Service Group. `trust` is gateway or end-to-end."""

    sg_id: str
    trust: str


@dataclass(frozen=True, slots=True)
class GroupDeleted:
    """An operator has deleted a Service Group."""

    sg_id: str


@dataclass(frozen=True, slots=True)
class PolicySet:
    """An operator has changed the policies of a Service Group."""

    sg_id: str


@dataclass(frozen=True, slots=True)
class Expelled:
    """An operator has ended a membership, or a permission."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Permitted:
    """An operator lets a board join."""

    pne_id: str
    sg_id: str


@dataclass(frozen=True, slots=True)
class Bound:
    """An operator has admitted a board to a PN, or moved it there."""

    pne_id: str
    pn_id: str


@dataclass(frozen=True, slots=True)
class RightsEnded:
    """An operator has ended all rights of a board."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class AdmissionEnded:
    """A board has lost its credential or Entity User Key, as an operator or its PN GW retired it, or it was replaced.

    Only an operator can admit it again.
    """

    pne_id: str


@dataclass(frozen=True, slots=True)
class GatewayRegistered:
    """A PN GW serves a PN. `replaces` is the PN GW that served it before and is blocked now, "" for none."""

    gateway_id: str
    pn_id: str
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class GatewayBlocked:
    """A PN GW is blocked: nothing is accepted from it any more."""

    gateway_id: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The store was declared an older copy; these Service Groups wait for a person."""

    held: tuple[str, ...]


Event = (
    KeyMade
    | KeyOpened
    | GroupCreated
    | GroupDeleted
    | PolicySet
    | Expelled
    | Permitted
    | Bound
    | RightsEnded
    | AdmissionEnded
    | GatewayRegistered
    | GatewayBlocked
    | Restored
)

Tell = Callable[[Event], None]


def write(event: Event) -> None:
    """Write the line of an event into the log."""
    _log.info("%s", line(event))


def line(event: Event) -> str:
    """Return the sentence of an event."""
    return _LINES[type(event)](event)


def _key_made(event: KeyMade) -> str:
    return f"version {version_text(event.version)} of {event.sg_id} is made: {reason_text(event.reason)}"


def _key_opened(event: KeyOpened) -> str:
    tries = "" if not event.tries else f" in {event.tries} {'try' if event.tries == 1 else 'tries'}"
    return f"{event.pne_id} has opened version {version_text(event.version)} of {event.sg_id}{tries}"


def _gateway(event: GatewayRegistered) -> str:
    text = f"PN GW {event.gateway_id} serves PN {event.pn_id}"
    return f"{text} in place of {event.replaces}, which is blocked" if event.replaces else text


_LINES: dict[type, Callable[[Any], str]] = {
    KeyMade: _key_made,
    KeyOpened: _key_opened,
    GroupCreated: lambda event: f"Service Group {event.sg_id} is created, trust {event.trust}",
    GroupDeleted: lambda event: f"Service Group {event.sg_id} is deleted",
    PolicySet: lambda event: f"the policies of Service Group {event.sg_id} are changed",
    Expelled: lambda event: f"{event.pne_id} is expelled from {event.sg_id}",
    Permitted: lambda event: f"{event.pne_id} may join {event.sg_id}",
    Bound: lambda event: f"{event.pne_id} belongs to PN {event.pn_id}",
    RightsEnded: lambda event: f"{event.pne_id} is retired: all its rights have ended",
    AdmissionEnded: lambda event: (
        f"{event.pne_id} is not admitted to end-to-end groups any more: what was known of it is erased"
    ),
    GatewayRegistered: _gateway,
    GatewayBlocked: lambda event: f"PN GW {event.gateway_id} is blocked",
    Restored: lambda event: f"the store is an older copy; held until confirmed: {', '.join(event.held) or 'none'}",
}
