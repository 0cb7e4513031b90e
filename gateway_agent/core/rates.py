"""How often a peer may ask (SEC-19): what one registered PNE may cost the PN GW, its store and the CPNS Server.

Whoever asks too often is told so (TooMany) and nothing else happens.
"""

from collections import deque

HOUR_S = 3600.0
REQUESTS = (2.0, 64)
"""Messages of one PNE: per second, and burst. A board of 8 groups that starts anew sends some 30 in a minute, one that
pulls because all of its broadcasts are forged (SEC-09) 1.6 in a second. Each makes one synced commit at most."""
REPORTS = (100.0, 1024)
"""Confirmations without a session, of all PNEs and of whoever else can be heard: per second, and burst. A tree of PNEs
may report one key at once; each costs a MAC or two."""
UPLINK_REQUESTS = (1 / 60, 24)
"""Requests to the CPNS Server because of one PNE: per second, and burst. A board of 8 groups may join them all again
at each of its starts."""
GKDK_LOSSES_PER_HOUR = 6
"""How often a PNE may have lost its GKDK: each time the covers of its groups change, and it is given again."""
GKDK_REQUESTS_PER_HOUR = 4
MEMBERSHIP_CHANGES_PER_HOUR = 6
FIRST_JOINS = 8
"""Groups that a PNE may join for the first time beside that: those that a board has room for."""
LOST_WINDOWS_PER_HOUR = 1
SOFTWARE_CHANGES_PER_HOUR = 4
PEERS_MAX = 4096
"""Peers whose rates are remembered; the one idle longest is forgotten first."""


class Rate:
    """At most `limit` events of one peer an hour. A restart forgets what was counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: dict[str, deque[float]] = {}

    def allow(self, peer_id: str, now: float) -> bool:
        """Count an event of `peer_id` at `now` (monotonic seconds); False, uncounted, if it is one too many."""
        if peer_id not in self._times and len(self._times) >= PEERS_MAX:
            self._forget_idle(now)
        times = self._times.setdefault(peer_id, deque())
        while times and times[0] <= now - HOUR_S:
            times.popleft()
        if len(times) >= self._limit:
            return False
        times.append(now)
        return True

    def reset(self, peer_id: str) -> None:
        """Forget what the peer did: a person has released it, or its name has a new owner."""
        self._times.pop(peer_id, None)

    def _forget_idle(self, now: float) -> None:
        self._times = {peer: times for peer, times in self._times.items() if times and times[-1] > now - HOUR_S}
