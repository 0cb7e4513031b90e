"""Handshakes between message_2 and message_3: few, short-lived, bound to the address they came from (SEC-21)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from message_plane import tuning
from message_plane.edhoc import Responder


@dataclass(frozen=True, slots=True)
class _Entry:
    responder: Responder
    host: str
    port: int
    ends: float


class HalfOpen:
    """The table, by C_R. `now` in seconds, monotonic."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}  # in the order of their ends
        self._per_host: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, c_r: bytes) -> bool:
        return c_r in self._entries

    @property
    def crowded(self) -> bool:
        """True when newcomers should show their address first."""
        return len(self._entries) >= tuning.HALF_OPEN_MAX // 4

    def has_room(self, host: str) -> bool:
        """True if a handshake from `host` may be added."""
        return len(self._entries) < tuning.HALF_OPEN_MAX and self._per_host[host] < tuning.HALF_OPEN_PER_ADDRESS

    def add(self, responder: Responder, host: str, port: int, now: float) -> None:
        self._entries[responder.c_r] = _Entry(responder, host, port, now + tuning.HALF_OPEN_S)
        self._per_host[host] += 1

    def take(self, c_r: bytes, host: str, port: int) -> Responder | None:
        """The handshake that waits for message_3 under `c_r` from this address; it is no longer in the table.

        Another address finds nothing and ends nothing.
        """
        entry = self._entries.get(c_r)
        if entry is None or (entry.host, entry.port) != (host, port):
            return None
        self._remove(c_r)
        return entry.responder

    def expire(self, now: float) -> int:
        """Forget those that waited too long; their number."""
        late = []
        for c_r, entry in self._entries.items():
            if entry.ends > now:
                break
            late.append(c_r)
        for c_r in late:
            self._remove(c_r)
        return len(late)

    def _remove(self, c_r: bytes) -> None:
        host = self._entries.pop(c_r).host
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]
