"""Turns the events of a gateway into lines of its log, with names and numbers and never a secret."""

import logging
from collections.abc import Callable
from typing import Any

from cpns import delivery_report
from cpns.in_words import reason_text, version_text
from gateway_agent.core import alarms, events
from gateway_agent.core.events import Event

_log = logging.getLogger(__name__)

_NAMED_MAX = 8  # boards in one line
LINK_TEXTS = {
    delivery_report.WIFI: "by Wi-Fi",
    delivery_report.BLE: "by Bluetooth",
    delivery_report.UNICAST: "by its session",
    delivery_report.END_TO_END: "end to end",
}
"""How a key came to a board, for sentences, by the word for its link."""


def write(event: Event) -> None:
    """Write one line for an event: a warning if a person should look at it, else info.

    What happens for each board or each airing is for debugging only, as a home may have a thousand boards.
    """
    if isinstance(event, _MANY):
        if not _log.isEnabledFor(logging.DEBUG):
            return
        write_line = _log.debug
    else:
        write_line = _log.info
    about = {name: getattr(event, name, "") for name in ("sg_id", "pne_id")}
    if code := code_of(event):
        _log.warning(f"{code} %s", line(event), extra=about)
    else:
        write_line("%s", line(event), extra=about)


def code_of(event: Event) -> str:
    """Return the code of an event at which a person should look (docs/troubleshooting.md), "" for any other."""
    if isinstance(event, events.KeyDelivered) and not event.missing:
        return ""
    if isinstance(event, events.AlarmBegan):
        return alarms.CODES[event.kind]
    return _CODES.get(type(event), "")


def line(event: Event) -> str:
    """Return the sentence for an event."""
    return _LINES[type(event)](event)


def _key_arrived(event: events.KeyArrived) -> str:
    return f"version {version_text(event.version)} of {event.sg_id} has arrived: {reason_text(event.reason)}"


def _confirmed(event: events.KeyConfirmed) -> str:
    tries = "1 try" if event.tries == 1 else f"{event.tries} tries"
    way = LINK_TEXTS.get(event.link, event.link)
    return f"{event.pne_id} has confirmed version {version_text(event.version)} of {event.sg_id} {way}, {tries}"


def _broadcast_sent(event: events.BroadcastSent) -> str:
    on = f" on {', '.join(event.networks)}" if event.networks else ""
    return f"version {version_text(event.version)} of {event.sg_id} is broadcast{on}"


def _key_delivered(event: events.KeyDelivered) -> str:
    others = event.confirmed - event.by_broadcast
    ways = [f"{count} {how}" for count, how in ((event.by_broadcast, "by broadcast"), (others, "by session")) if count]
    text = (
        f"version {version_text(event.version)} of {event.sg_id} is delivered: "
        f"{event.confirmed} of {event.members} boards after {event.seconds:.1f} s ({', '.join(ways) or 'none'})"
    )
    return f"{text}; without it: {_listed(event.missing)}" if event.missing else text


def _retired(event: events.Retired) -> str:
    return f"{event.pne_id} is retired ({event.cause}); exposed until a newer key: {_listed(event.exposed) or 'none'}"


def _update_offered(event: events.UpdateOffered) -> str:
    to = [_listed(event.boards)] if event.boards else []
    to += [f"the boards of {_listed(event.groups)}"] if event.groups else []
    way = (" by a sealed broadcast" if event.sealed_for else " by broadcast") if event.is_broadcast else ""
    return f"{event.image_kind} update {event.update_number} is offered{way} to {' and '.join(to) or 'all boards'}"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


_LINES: dict[type, Callable[[Any], str]] = {
    events.Paired: lambda event: f"{event.pne_id} is paired and let in",
    events.Registered: lambda event: f"{event.pne_id} is provisioned and let in",
    events.Runs: lambda event: f"{event.pne_id} runs version {event.software} of the agent",
    events.Joined: lambda event: f"{event.pne_id} has joined {event.sg_id}",
    events.Left: lambda event: f"{event.pne_id} has left {event.sg_id}",
    events.Removed: lambda event: f"{event.pne_id} is out of {event.sg_id}: the CPNS Server's list names it no more",
    events.Retired: _retired,
    events.Held: lambda event: f"{event.pne_id} joins and leaves too often: held until keycast board release",
    events.KeyArrived: _key_arrived,
    events.BroadcastSent: _broadcast_sent,
    events.KeyConfirmed: _confirmed,
    events.BoardUnreachable: lambda event: (
        f"{event.pne_id} cannot be reached with version {version_text(event.version)} of {event.sg_id}"
    ),
    events.KeyDelivered: _key_delivered,
    events.KeysWithheld: lambda event: (
        f"the CPNS Server is silent for {event.seconds / 60:.0f} minutes: no key is given out until it answers"
    ),
    events.KeysResumed: lambda event: "the CPNS Server answers again: keys are given out again",
    events.GroupDeleted: lambda event: f"{event.sg_id} is deleted and its keys are erased",
    events.RolledOver: lambda event: f"signing key {event.signing_epoch} is in use; boards learn it one by one",
    events.AlarmBegan: lambda event: f"alarm begins: {event.text}",
    events.AlarmEnded: lambda event: f"alarm ends: {event.text}",
    events.UplinkUp: lambda event: "the CPNS Server answers",
    events.UplinkDown: lambda event: f"the CPNS Server does not answer: {event.problem}",
    events.PairingOpened: lambda event: f"the pairing window for {event.pne_id} is open",
    events.PairingEnded: lambda event: f"the pairing window for {event.pne_id} is closed: {event.outcome}",
    events.GmkArrived: lambda event: f"GMK {event.key_id} of {_listed(event.groups)} has arrived for {event.user}",
    events.GmkRevoked: lambda event: f"GMK {event.key_id} of {_listed(event.groups)} is revoked for {event.user}",
    events.UpdateOffered: _update_offered,
    events.UpdateWithdrawn: lambda event: f"{event.image_kind} update {event.update_number} is withdrawn",
    events.UpdateAired: lambda event: f"{event.image_kind} update {event.update_number} has been broadcast",
    events.BoardUpdated: lambda event: f"{event.pne_id} runs {event.image_kind} update {event.update_number}",
    events.BoardFellBack: lambda event: f"{event.pne_id} went back from update {event.update_number}: {event.problem}",
    events.BoardRefused: lambda event: f"{event.pne_id} does not take update {event.update_number}: {event.problem}",
}
_CODES = {
    events.Retired: "KC1021",
    events.Held: "KC1022",
    events.KeysWithheld: "KC1023",
    events.KeyDelivered: "KC1024",  # if a member is without the key
    events.UplinkDown: "KC1025",
    events.BoardFellBack: "KC1026",
    events.BoardRefused: "KC1027",
}
_MANY = (events.BroadcastSent, events.KeyConfirmed, events.BoardUnreachable)
