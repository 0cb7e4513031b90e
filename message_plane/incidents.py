"""Counting what happens, and saying little about what strangers do: counters, and at most one line a minute."""

from __future__ import annotations

import logging
from collections import Counter

from message_plane import tuning
from message_plane.clock import monotonic

log = logging.getLogger("message_plane")

# Everything that is counted. The first group is what strangers can cause at will: it is logged in summary only.
STRANGE = (
    "datagrams_malformed",
    "requests_unprotected",
    "requests_without_context",
    "requests_not_authentic",
    "requests_replayed",
    "requests_malformed",
    "requests_refused",
    "requests_rejected",
    "responses_unprotected",
    "handshakes_challenged",
    "handshakes_limited",
    "handshakes_failed",
    "handshakes_wrong_role",
    "handshakes_unknown_peer",
    "handshakes_timed_out",
)
ORDINARY = (
    "datagrams_received",
    "datagrams_unsent",
    "discoveries_answered",
    "requests_handled",
    "requests_repeated",
    "requests_echo_challenged",
    "requests_too_many",
    "handlers_failed",
    "handshakes_started",
    "handshakes_done",
    "sessions_begun",
    "sessions_ended",
    "requests_sent",
    "requests_unanswered",
    "pings_unanswered",
)


class Incidents:
    """Increments `counters[name]`; the names are those above."""

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
