"""A clock that tells when keys may be erased, as the wall clock alone must not decide that (SEC-36).

A key that has expired by the wall clock is not used from that moment on. It is erased only when that clock has run
evenly for hours. Therefore a wrong time for a while, forged or by mistake, or in the first minutes of a machine without
a battery, erases no key that would be valid again afterwards.
"""

import time
from collections.abc import Callable

EVEN_FOR_S = 6 * 3600
STEP_S = 300
"""A larger difference between wall clock and running time is no drift: the clock was set."""


class SteadyClock:
    """A callable that returns the time by which keys may be erased. `clock` returns Unix seconds."""

    def __init__(self, clock: Callable[[], int], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._since = self._clock(), self._monotonic()

    def __call__(self) -> int:
        """Return Unix seconds, or 0 if the clock was set in the last EVEN_FOR_S of running, which erases nothing.

        It must be called every few minutes, as it does not notice a clock that was set and set back in between.
        """
        unix, now = self._clock(), self._monotonic()
        began, at = self._since
        if abs((unix - began) - (now - at)) > STEP_S:
            self._since = unix, now
            return 0
        return unix if now - at >= EVEN_FOR_S else 0
