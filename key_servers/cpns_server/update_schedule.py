"""When Group Keys are updated: soon after joins and leaves, and periodically. Pure; `now` is monotonic, in seconds."""

from cpns import numbers
from key_servers.cpns_server import tuning
from key_servers.cpns_server.values import GroupState, Moment, StoredGroup

# Of two reasons for one update the one is told on which members must act faster (SEC-05).
_STRENGTH = (
    numbers.REASON_CREATE,
    numbers.REASON_PERIODIC,
    numbers.REASON_JOIN,
    numbers.REASON_BY_HAND,
    numbers.REASON_LEAVE,
)


def stronger(reason: int, other: int | None) -> int:
    """Return the stronger of two reasons of an update; None is no reason."""
    return reason if other is None else max(reason, other, key=_STRENGTH.index)


class UpdateSchedule:
    """Keeps for each Service Group the time of its next update.

    A burst is counted from its first join or leave: later ones do not delay the update (SEC-19, SEC-05).
    """

    def __init__(self, batching_s: float) -> None:
        self._batching_s = batching_s
        self._pending: dict[str, float] = {}
        self._slow: set[str] = set()  # SG IDs of those that a quicker note makes sooner
        self._periodic: dict[str, tuple[int, int, float]] = {}  # SG ID: (version, period, when it ends)

    def consider(self, group: StoredGroup, now: Moment, late_s: float = 0.0, *, is_slow: bool = False) -> None:
        """Note the state of a group in the store after it changed.

        Another process makes the update that this has made necessary, unless it has not `late_s` after it is due. With
        `is_slow` it waits for BATCHING_MAX_S, unless another change makes it necessary sooner.
        """
        last = self._periodic.pop(group.sg_id, None)
        if group.state is not GroupState.ACTIVE:
            self._made(group.sg_id)
            return
        if group.pending is None:
            self._made(group.sg_id)
        else:
            batching_s = self._batching_s if group.batching_s is None else group.batching_s
            at = now.monotonic + (tuning.BATCHING_MAX_S if is_slow else batching_s) + late_s
            self._note(group.sg_id, at, is_slow)
        if last is not None and last[:2] == (group.version, group.period_s):
            self._periodic[group.sg_id] = (
                last  # the same key, so the time that was computed for it holds, whatever the wall clock says meanwhile
            )
        elif group.period_s:
            ends = now.monotonic + group.period_s - _age_s(group, now) + late_s
            self._periodic[group.sg_id] = (group.version, group.period_s, ends)

    def hurry(self, sg_id: str, now: Moment) -> None:
        """Make a pending update due at once, as it waits since before a restart."""
        if sg_id in self._pending:
            self._pending[sg_id] = now.monotonic

    def due(self, now: Moment) -> list[str]:
        """Return the SG IDs of the updates that are due; they stay due until `consider` or `postpone`."""
        periods = {sg_id for sg_id, (_, _, ends) in self._periodic.items() if ends <= now.monotonic}
        notes = {sg_id for sg_id, at in self._pending.items() if at <= now.monotonic}
        return sorted(notes | periods)

    def is_due(self, sg_id: str, now: Moment) -> bool:
        """Return True if the update of this group is due."""
        _, _, ends = self._periodic.get(sg_id, (0, 0, float("inf")))
        return min(self._pending.get(sg_id, float("inf")), ends) <= now.monotonic

    def postpone(self, sg_id: str, now: Moment, seconds: float) -> None:
        """Try the update again later, as it failed."""
        later = now.monotonic + seconds
        if sg_id in self._pending:
            self._pending[sg_id] = max(self._pending[sg_id], later)
        if sg_id in self._periodic:
            version, period_s, ends = self._periodic[sg_id]
            self._periodic[sg_id] = (version, period_s, max(ends, later))

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which the next update is due, None if there is none."""
        return min([*self._pending.values(), *(ends for _, _, ends in self._periodic.values())], default=None)

    def _note(self, sg_id: str, at: float, is_slow: bool) -> None:
        if sg_id in self._slow and not is_slow:
            self._slow.discard(sg_id)
            self._pending[sg_id] = min(self._pending[sg_id], at)
        elif sg_id not in self._pending:
            self._pending[sg_id] = at
            if is_slow:
                self._slow.add(sg_id)

    def _made(self, sg_id: str) -> None:
        self._pending.pop(sg_id, None)
        self._slow.discard(sg_id)


def _age_s(group: StoredGroup, now: Moment) -> int:
    # A clock that is not set, or was set back, must neither delay an update by years nor cause one at every start.
    if not now.unix or not group.key_made_at:
        return 0
    return min(max(now.unix - group.key_made_at, 0), group.period_s)
