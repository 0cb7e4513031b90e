"""Counters of what happens, and a log of what unknown senders do that has at most one line a minute."""

from __future__ import annotations

import logging
from collections import Counter

from message_plane import tuning
from message_plane.clock import monotonic

log = logging.getLogger("message_plane")


class Incidents:
    """Increments `counters[name]`. Incidents that any sender can cause are logged in summary only."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._unsaid: Counter[str] = Counter()
        self._next_line = 0.0

    def count(self, name: str) -> None:
        """Count an ordinary event."""
        self.counters[name] += 1

    def strange(self, name: str) -> None:
        """Count an incident that any sender can cause, and log the new ones in at most one line per LOG_EVERY_S."""
        self.counters[name] += 1
        self._unsaid[name] += 1
        now = monotonic()
        if now < self._next_line:
            return
        self._next_line = now + tuning.LOG_EVERY_S
        log.warning(
            "KC3006 refused traffic: %s",
            ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(self._unsaid.items())),
        )
        self._unsaid.clear()
