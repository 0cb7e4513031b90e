"""Which backups in a folder are not needed any more: it keeps one for each of the last days, and of the last weeks.

Backups are ordered by their numbers and not by their dates, and days are those on which a backup was made. So a clock
that jumps, or has lost the date, ends nothing (SEC-36): after a jump everything stays until the next backup.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from gateway_agent.machine_watch import NO_DATE_BEFORE

JUMP_D = 31
"""Days from one backup to the next from which on the clock is not believed."""

_DATED = datetime.datetime.fromtimestamp(NO_DATE_BEFORE, datetime.UTC).date()


@dataclass(frozen=True, order=True)
class Kept:
    """A backup in the folder: its number, which grows with each one, and the date of the clock when it was made."""

    number: int
    day: datetime.date


def surplus(found: Iterable[Kept], daily: int, weekly: int) -> list[Kept]:
    """Return the backups of `found` that may go, oldest first.

    The newest of each of the last `daily` days with a backup stays, and of each of the last `weekly` weeks. All stay if
    the newest one is dated before the one before it, more than `JUMP_D` days after it, or before there was keycast.
    """
    ordered = sorted(found)
    if len(ordered) < 2 or ordered[-1].day < _DATED:
        return []
    if not 0 <= (ordered[-1].day - ordered[-2].day).days <= JUMP_D:
        return []
    stays = {
        *_newest_of_each(ordered, lambda each: each.day)[-daily:][:daily],
        *_newest_of_each(ordered, lambda each: each.day.isocalendar()[:2])[-weekly:][:weekly],
        ordered[-1],
    }
    return [each for each in ordered if each not in stays]


def _newest_of_each(ordered: Sequence[Kept], period: Callable[[Kept], object]) -> list[Kept]:
    """Return the newest backup of each run of backups of one period: a date that comes again begins another run."""
    return [list(run)[-1] for _, run in groupby(ordered, key=period)]
