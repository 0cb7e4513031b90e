"""Limits on how often a peer may ask (SEC-19): the load that one PNE may put on the PN GW, its store and the Server.

A request above a limit is refused (TooMany) and has no other effect, except that a PNE that joins and leaves too often
is held.
"""

from collections import deque

HOUR_S = 3600.0
REQUESTS = (2.0, 64)
"""Messages of one PNE: per second, and burst. A board of 8 groups that starts anew sends about 30 in a minute; a board
that pulls because all of its broadcasts are forged (SEC-09) sends 1.6 a second. Each message causes at most one synced
commit."""
REPORTS = (100.0, 1024)
"""Confirmations without a session, of all PNEs and all other senders in range together: per second, and burst. All PNEs
of a tree may report one key at once; each report costs one or two MACs."""
UPLINK_REQUESTS = (1 / 60, 24)
"""Requests to the CPNS Server on behalf of one PNE: per second, and burst. A board of 8 groups may join all of them
again at each start."""
TUNNELLED = (1 / 2, 64)
"""Datagrams of one PNE to the CPNS Server (docs/protocol.md section 11): per second, and burst. A board of 8 groups
that starts anew sends about 12, with a handshake; one that joins them all, and then loses its session and asks for all
of them again, 34 within seconds. What CoAP repeats on the way to the PN GW counts once; a PNE that has waited in vain
asks anew, and that counts, so a PN GW that is slow for a moment needs as many again. Each may cost the Server a point
multiplication."""
GKDK_LOSSES_PER_HOUR = 6
"""How often a PNE may lose its GKDK: each time the covers of its groups change, and the GKDK is sent again."""
GKDK_REQUESTS_PER_HOUR = 4
MEMBERSHIP_CHANGES_PER_HOUR = 6
FIRST_JOINS = 8
"""First joins of a PNE that do not count as membership changes: as many groups as a board can hold."""
LOST_WINDOWS_PER_HOUR = 1
SOFTWARE_CHANGES_PER_HOUR = 4
PEERS_MAX = 4096
"""Peers whose rates are remembered. Above that, peers that are idle are forgotten."""


class Rate:
    """A limit of `limit` events an hour for each peer. The counts are lost at a restart."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: dict[str, deque[float]] = {}

    def allow(self, peer_id: str, now: float) -> bool:
        """Count an event of `peer_id` at `now` (monotonic seconds) and return True.

        Returns False, and counts nothing, if the limit is reached.
        """
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
        """Forget the events of the peer, because a person has released it or its name has a new owner."""
        self._times.pop(peer_id, None)

    def _forget_idle(self, now: float) -> None:
        self._times = {peer: times for peer, times in self._times.items() if times and times[-1] > now - HOUR_S}
