"""Alarms, each of which is logged once, and counts of hostile or broken messages.

Where many PN GWs have the same trouble it is one alarm with a count, and a few lines of the log, not thousands.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from cpns.errors import CpnsError
from key_servers.cpns_server.values import Moment, ServerAlarm

_log = logging.getLogger(__name__)

_MOST = 16384  # of one kind: a PN GW may not fill the memory; the oldest go first
_SINGLY = 3  # so many of one kind are told one by one, more of them together
_NAMED = 3  # of those told together
_LINE_EVERY_S = 60.0

UNDELIVERED = "undelivered"
SILENT = "silent"
AHEAD = "ahead"
LOST_STORE = "lost-store"
UNKNOWN_GROUP = "unknown-group"
UPDATE_FAILED = "update-failed"
STORE = "store"  # nothing can be written down
HELD = "held"  # as the database may be an older copy of itself
BROKER = "broker"  # one of the brokers does not let the Server in, or is away
UNOPENED = "unopened"
NO_ENTITY_KEY = "no-entity-key"
FORGED = "forged"
CODES = {
    UNDELIVERED: "KC2001",
    SILENT: "KC2002",
    AHEAD: "KC2003",
    LOST_STORE: "KC2004",
    UNKNOWN_GROUP: "KC2005",
    UPDATE_FAILED: "KC2006",
    STORE: "KC2007",
    HELD: "KC2008",
    BROKER: "KC2009",
    UNOPENED: "KC2010",
    NO_ENTITY_KEY: "KC2011",
    FORGED: "KC2012",
}
"""The code of each kind, by which docs/troubleshooting.md knows it."""

_TOGETHER = {
    UNDELIVERED: "{gateways} did not take the newest state of {groups}: members may still use an old key. "
    "Check their uplinks.",
    SILENT: "{gateways} sent no version list for half an hour: a member who was removed may still be keyed there. "
    "Check their uplinks.",
    AHEAD: "{gateways} said to hold versions of {groups} that this Server has not issued. Either they are wrong, or "
    "this Server runs on an old copy of its store: then run keycast server restore.",
    LOST_STORE: "{gateways} went back to an older version of {groups}: were old images put back? "
    "Then run keycast gateway restore at each.",
    UNKNOWN_GROUP: "{gateways} hold Service Groups this Server has never made. If it runs on an old copy of its "
    "store, run keycast server restore.",
    STORE: "Nothing new can be stored.",
    HELD: "{groups} are held since the database may have gone back (SEC-03): their boards keep the key that they have. "
    "Look at the members of each, then: keycast server confirm-members GROUP",
    BROKER: "A broker is away.",
    UNOPENED: "{boards} did not open the newest key of {groups}: they may still use an old one. Check them and the "
    "PN GWs that carry it.",
    NO_ENTITY_KEY: "{boards} have no Entity User Key at this Server, and so get no key of {groups}. Check that they "
    "know the Server's credential, and the Server theirs.",
    FORGED: "{gateways} brought answers of {boards} about {groups} that these boards have not made. Look for who has "
    "access to the PN GW.",
    UPDATE_FAILED: "The Group Keys of {groups} were not updated. The log says why.",
}


AlarmKey = tuple[str, str, str, str]
"""Kind, PN GW ID, SG ID and PNE ID of an alarm; "" stands for what it is not about."""


@dataclass(slots=True)
class _Kind:
    """The alarms of one kind by (PN GW ID, SG ID, PNE ID).

    `told` is their number when they were last logged together, 0 = singly.
    """

    each: dict[tuple[str, str, str], ServerAlarm] = field(default_factory=dict)
    told: int = 0


class ServerAlarms:
    """Alarms that stand until their cause ends or a person dismisses them."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def set(self, kind: str, gateway_id: str, sg_id: str, text: str, now: Moment, pne_id: str = "") -> None:
        """Raise an alarm; "" stands for what it is not about.

        An alarm that stands already keeps its time and is not logged again.
        """
        alarms = self._kinds.setdefault(kind, _Kind())
        key = (gateway_id, sg_id, pne_id)
        if key in alarms.each:
            return
        while len(alarms.each) >= _MOST:
            del alarms.each[next(iter(alarms.each))]
        alarms.each[key] = ServerAlarm(kind, gateway_id, sg_id, now.unix, text, pne_id=pne_id)
        count = len(alarms.each)
        if count <= _SINGLY and not alarms.told:
            _log.warning(f"{CODES[kind]} alarm begins: %s", text, extra={"sg_id": sg_id, "pne_id": pne_id})
        elif count >= 2 * alarms.told:
            alarms.told = count
            _log.warning(f"{CODES[kind]} alarm begins or grows: %s", _together(kind, alarms).text)

    def clear(self, kind: str, gateway_id: str, sg_id: str, pne_id: str = "") -> None:
        """End an alarm, if it stands."""
        alarms = self._kinds.get(kind)
        ended = alarms.each.pop((gateway_id, sg_id, pne_id), None) if alarms is not None else None
        if alarms is None or ended is None:
            return
        if not alarms.told:
            _log.info("alarm ends: %s", ended.text)
        elif not alarms.each:
            alarms.told = 0
            _log.info("alarm ends, the last of many: %s", ended.text)

    def dismiss(self, kind: str, gateway_id: str = "", sg_id: str = "") -> bool:
        """End all alarms of a kind, or those of one PN GW or Service Group. Return False if there are none."""
        keys = [
            key for key in self._kinds.get(kind, _Kind()).each if gateway_id in ("", key[0]) and sg_id in ("", key[1])
        ]
        for key in keys:
            self.clear(kind, *key)
        return bool(keys)

    def forget(self, gateway_id: str) -> None:
        """End the alarms of a PN GW that was blocked."""
        for kind in list(self._kinds):
            self.dismiss(kind, gateway_id)

    def forget_unless(self, holds: Callable[[str], bool]) -> None:
        """End the alarms of PN GWs for which `holds` returns False, as another process watches those."""
        for kind, alarms in self._kinds.items():
            for gateway_id, sg_id, pne_id in list(alarms.each):
                if gateway_id and not holds(gateway_id):
                    self.clear(kind, gateway_id, sg_id, pne_id)

    def each(self) -> dict[AlarmKey, ServerAlarm]:
        """Return all alarms of this process, each by itself."""
        return {(kind, *key): alarm for kind, alarms in self._kinds.items() for key, alarm in alarms.each.items()}

    def standing(self, elsewhere: Iterable[ServerAlarm] = ()) -> tuple[ServerAlarm, ...]:
        """Return all alarms, and those that stand `elsewhere`, oldest first.

        Many of one kind are one alarm, which names no PN GW and no group.
        """
        kinds = {kind: _Kind(dict(alarms.each)) for kind, alarms in self._kinds.items()}
        for number, alarm in enumerate(elsewhere):
            key = (alarm.gateway_id, alarm.sg_id, alarm.pne_id)
            each = kinds.setdefault(alarm.kind, _Kind()).each
            # What is about no PN GW is about the process itself, so each has its own.
            each[key if any(key) else ("", "", str(number))] = alarm
        shown: list[ServerAlarm] = []
        for kind, alarms in kinds.items():
            if len(alarms.each) > _SINGLY:
                shown.append(_together(kind, alarms))
            else:
                shown += alarms.each.values()
        return tuple(sorted(shown, key=lambda alarm: alarm.since))


def _together(kind: str, alarms: _Kind) -> ServerAlarm:
    text = _TOGETHER[kind].format(
        gateways=_names("PN GW", {gateway_id: None for gateway_id, _, _ in alarms.each}),
        groups=_names("Service Group", {sg_id: None for _, sg_id, _ in alarms.each}),
        boards=_names("board", {pne_id: None for _, _, pne_id in alarms.each}),
    )
    return ServerAlarm(kind, "", "", min(each.since for each in alarms.each.values()), text, len(alarms.each))


def _names(what: str, names: Collection[str]) -> str:
    some = ", ".join(list(names)[:_NAMED])
    if len(names) == 1:
        return f"{what} {some}"
    return f"{len(names)} {what}s ({some}{', ...' if len(names) > _NAMED else ''})"


class Refusals:
    """Counts messages that were refused, and logs those of each kind in at most one line a minute.

    One that a PN GW may send and that the Server refuses, such as a join to a group that is not there, is an everyday
    matter, and hides none that no honest PN GW sends.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._next_line_at: dict[str, float] = {}

    def count(self, kind: str, what: str, gateway_id: str, error: CpnsError, now: Moment) -> None:
        """Count one message of `kind` ("malformed", "refused", "foreign", "forged"), and say `what` it is and why."""
        self._counters[f"messages_{kind}"] += 1
        if now.monotonic >= self._next_line_at.get(kind, float("-inf")):
            self._next_line_at[kind] = now.monotonic + _LINE_EVERY_S
            _log.warning(
                "KC2033 a %s of PN GW %r was %s: %s; more in the next minute are only counted",
                what,
                gateway_id,
                kind,
                error.reason,
            )
