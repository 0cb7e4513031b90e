"""How much boards may ask for: the load that updates put on a gateway beside its keys."""

from collections import Counter, OrderedDict

from message_plane.rate import Bucket, Buckets

PIECES = (32.0, 128)
"""Pieces of one board: per second, and burst. A board stores about 10 a second."""
PIECES_OF_ALL = (100.0, 256)
"""Pieces of all boards together: per second, and burst. Each costs a gateway on a small machine about two milliseconds
of its one thread, in which it also delivers keys."""
PIECES_TIMES = 3
"""How often a board may ask for each piece of an update, on average, until the next start of the gateway."""
REPORTS = (1 / 5, 16)
"""Reports of one board: per second, and burst. One comes at each change of its state, with each session, once a day,
and once an hour from a board in no group."""
TOLD_PER_HOUR = 6
"""Changes of one board that become events, with a line in the log. An update has one or two."""
BOARDS_MAX = 4096
"""Boards whose rates are remembered."""
TURN_MAX_S = 3600
"""The longest that a board is told to wait; after it the board pulls whatever happens."""


class UpdateLimits:
    """Decides whether a board may ask now. `now` is in seconds of a clock that does not go back."""

    def __init__(self) -> None:
        self._of_one = Buckets(*PIECES, BOARDS_MAX)
        self._of_all = Bucket(*PIECES_OF_ALL)
        self._reports = Buckets(*REPORTS, BOARDS_MAX)
        self._asked: Counter[tuple[str, bytes]] = Counter()

    def report(self, pne_id: str, now: float) -> bool:
        """Count a report and return True if it may be answered."""
        return self._reports.take(pne_id, now)

    def piece(self, pne_id: str, update_id: bytes, pieces: int, now: float) -> bool:
        """Count a piece of an update that has so many, and return True if it may be answered."""
        if self._asked[pne_id, update_id] >= PIECES_TIMES * pieces:
            return False
        if not (self._of_one.take(pne_id, now) and self._of_all.take(now)):
            return False
        self._asked[pne_id, update_id] += 1
        return True

    def forget_board(self, pne_id: str) -> None:
        """Forget what a board has asked for, as its name has no owner any more."""
        self._forget(pne_id, None)

    def forget_update(self, update_id: bytes) -> None:
        """Forget who has asked for an update, as it is not offered any more."""
        self._forget(None, update_id)

    def _forget(self, pne_id: str | None, update_id: bytes | None) -> None:
        for each in [each for each in self._asked if pne_id == each[0] or update_id == each[1]]:
            del self._asked[each]


class PullTurns:
    """When which board begins to pull, so that all together ask for `PIECES_OF_ALL` at most.

    A board that asks again keeps its turn.
    """

    def __init__(self) -> None:
        self._next_at = {False: 0.0, True: 0.0}  # by whether it is after an airing
        self._begins_at: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def wait_s(self, pne_id: str, update_id: bytes, pieces: float, now: float, not_before: float = 0.0) -> int:
        """Return in how many seconds a board begins to pull so many pieces of an update, from 0 to TURN_MAX_S.

        `not_before`: the end of the airing of the update, 0.0 for none.
        """
        at = self._begins_at.get((pne_id, update_id))
        if at is None or at < not_before:
            at = max(now, not_before, self._next_at[not_before > now])
            self._next_at[not_before > now] = at + pieces / PIECES_OF_ALL[0]
            self._begins_at[pne_id, update_id] = at
            if len(self._begins_at) > BOARDS_MAX:
                self._begins_at.popitem(last=False)
        return min(TURN_MAX_S, max(0, round(at - now)))

    def forget_update(self, update_id: bytes) -> None:
        """End the turns of an update that is not offered any more; turns of others stay."""
        for each in [each for each in self._begins_at if each[1] == update_id]:
            del self._begins_at[each]
        if not self._begins_at:
            self._next_at = dict.fromkeys(self._next_at, 0.0)
