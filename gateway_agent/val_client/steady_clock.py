"""When something is over for good: the wall clock alone erases nothing (SEC-36).

A key that has expired by the clock is not used from that moment on. It is erased when that clock has run evenly for
hours: a forged or mistaken time that comes and goes, or the first minutes of a machine without a battery, erase no key
that would be good again afterwards.
"""

import time
from collections.abc import Callable

EVEN_FOR_S = 6 * 3600
STEP_S = 300
"""More than that between wall clock and running time is no drift, but somebody who sets the clock."""


class SteadyClock:
    """`clock` (Unix seconds) as far as it may erase."""

    def __init__(self, clock: Callable[[], int], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._since = self._clock(), self._monotonic()

    def __call__(self) -> int:
        """Unix seconds, or 0, by which nothing is over, while the clock was set in the last hours of running.

        To be asked every few minutes: what was set and set back in between is not seen.
        """
        unix, now = self._clock(), self._monotonic()
        began, at = self._since
        if abs((unix - began) - (now - at)) > STEP_S:
            self._since = unix, now
            return 0
        return unix if now - at >= EVEN_FOR_S else 0
