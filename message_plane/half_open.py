"""Handshakes between message_2 and message_3: few, short-lived, bound to the address they came from (SEC-21, SEC-35).

Those whose address was shown by an Echo value count against that address. Those that nobody has shown share one small
pool, in which newer ones displace older: a forged address costs the one it names nothing.
"""

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
    proven: bool


class HalfOpen:
    """The table, by C_R. `now` in seconds, monotonic."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}  # in the order of their ends
        self._per_host: Counter[str] = Counter()  # of proven addresses
        self._unproven: dict[bytes, None] = {}  # C_R, the oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, c_r: bytes) -> bool:
        return c_r in self._entries

    @property
    def crowded(self) -> bool:
        """True when newcomers should show their address first."""
        proven = len(self._entries) - len(self._unproven)
        return proven >= tuning.HALF_OPEN_MAX // 4 or len(self._unproven) >= tuning.HALF_OPEN_UNPROVEN // 4

    def has_room(self, host: str) -> bool:
        """True if a handshake from `host`, which has shown its address, may be added."""
        proven = len(self._entries) - len(self._unproven)
        return proven < tuning.HALF_OPEN_MAX and self._per_host[host] < tuning.HALF_OPEN_PER_ADDRESS

    def add(self, responder: Responder, host: str, port: int, now: float, *, proven: bool = True) -> None:
        """Add a handshake: a proven one where `has_room` is true, any other at the cost of the oldest of its kind."""
        c_r = responder.c_r
        if proven:
            self._per_host[host] += 1
        else:
            if len(self._unproven) >= tuning.HALF_OPEN_UNPROVEN:
                self._remove(next(iter(self._unproven)))
            self._unproven[c_r] = None
        self._entries[c_r] = _Entry(responder, host, port, now + tuning.HALF_OPEN_S, proven)

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
        entry = self._entries.pop(c_r)
        self._unproven.pop(c_r, None)
        if entry.proven:
            self._per_host[entry.host] -= 1
            if not self._per_host[entry.host]:
                del self._per_host[entry.host]
