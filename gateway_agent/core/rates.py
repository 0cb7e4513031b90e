"""How often a peer may ask (SEC-19)."""

from collections import deque

HOUR_S = 3600.0
GKDK_REQUESTS_PER_HOUR = 4
MEMBERSHIP_CHANGES_PER_HOUR = 6
LOST_WINDOWS_PER_HOUR = 1
_PEERS_MAX = 4096


class Rate:
    """At most `limit` events of one peer in `period_s` seconds. A restart forgets what was counted."""

    def __init__(self, limit: int, period_s: float = HOUR_S) -> None:
        self._limit = limit
        self._period = period_s
        self._times: dict[str, deque[float]] = {}

    def allow(self, peer_id: str, now: float) -> bool:
        """Count an event of `peer_id` at `now` (monotonic seconds); False, uncounted, if it is one too many."""
        if peer_id not in self._times and len(self._times) >= _PEERS_MAX:
            self._forget_idle(now)
        times = self._times.setdefault(peer_id, deque())
        while times and times[0] <= now - self._period:
            times.popleft()
        if len(times) >= self._limit:
            return False
        times.append(now)
        return True

    def reset(self, peer_id: str) -> None:
        """Forget what the peer did: a person has released it."""
        self._times.pop(peer_id, None)

    def _forget_idle(self, now: float) -> None:
        self._times = {peer: times for peer, times in self._times.items() if times and times[-1] > now - self._period}
