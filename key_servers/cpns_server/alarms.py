"""What a person should look at, each thing once, and how often hostile or broken messages came."""

import logging
from collections import Counter

from key_servers.cpns_server.values import Alarm, Moment

_log = logging.getLogger(__name__)

_MOST = 1024  # a PN GW may not fill the memory; the oldest go first
_LINE_EVERY_S = 60.0

UNDELIVERED = "undelivered"
SILENT = "silent"
AHEAD = "ahead"
LOST_STORE = "lost-store"
UNKNOWN_GROUP = "unknown-group"
UPDATE_FAILED = "update-failed"


class Alarms:
    """Alarms that stand until their cause ends or a person dismisses them."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], Alarm] = {}

    def set(self, kind: str, gateway_id: str, sg_id: str, text: str, now: Moment) -> None:
        """Raise an alarm; one that stands already keeps its time and is not logged again."""
        key = (kind, gateway_id, sg_id)
        if key in self._standing:
            return
        while len(self._standing) >= _MOST:
            del self._standing[next(iter(self._standing))]
        self._standing[key] = Alarm(kind, gateway_id, sg_id, now.unix, text)
        _log.warning("alarm begins: %s", text)

    def clear(self, kind: str, gateway_id: str, sg_id: str) -> None:
        """End an alarm; none there is fine."""
        ended = self._standing.pop((kind, gateway_id, sg_id), None)
        if ended is not None:
            _log.info("alarm ends: %s", ended.text)

    def standing(self) -> tuple[Alarm, ...]:
        """All alarms, oldest first."""
        return tuple(self._standing.values())


class Refusals:
    """Counts messages that were refused, and says so in at most one log line a minute."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._next_line_at = float("-inf")

    def count(self, kind: str, gateway_id: str, now: Moment) -> None:
        """Count one message of `kind` ("malformed", "refused", "foreign")."""
        self._counters[f"messages_{kind}"] += 1
        if now.monotonic >= self._next_line_at:
            self._next_line_at = now.monotonic + _LINE_EVERY_S
            _log.warning("a message of PN GW %r was %s; more in the next minute are only counted", gateway_id, kind)
