"""Counting what happens, and saying little about what strangers do: counters, and at most one line a minute."""

from __future__ import annotations

import logging
from collections import Counter

from message_plane import tuning
from message_plane.clock import monotonic

log = logging.getLogger("message_plane")


class Incidents:
    """Increments `counters[name]`. What strangers can cause at will is logged in summary only."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._unsaid: Counter[str] = Counter()
        self._next_line = 0.0

    def count(self, name: str) -> None:
        """Count an ordinary event."""
        self.counters[name] += 1

    def strange(self, name: str) -> None:
        """Count something a stranger did; say so in at most one line for LOG_EVERY_S seconds."""
        self.counters[name] += 1
        self._unsaid[name] += 1
        now = monotonic()
        if now < self._next_line:
            return
        self._next_line = now + tuning.LOG_EVERY_S
        log.warning(
            "refused traffic: %s",
            ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(self._unsaid.items())),
        )
        self._unsaid.clear()
