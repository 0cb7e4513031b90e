"""The `ports.Clock` of MicroPython and of CPython."""

import sys
import time

if sys.implementation.name == "micropython":

    class Clock:
        """Milliseconds since the start, from ticks that wrap every 12 days: call `now` every 6 days at least."""

        def __init__(self):
            self._last = time.ticks_ms()
            self._now = 0

        def now(self):
            ticks = time.ticks_ms()
            self._now += time.ticks_diff(ticks, self._last)
            self._last = ticks
            return self._now

else:

    class Clock:
        """Milliseconds of the machine's monotonic clock."""

        def now(self):
            return time.monotonic_ns() // 1000000  # pyright: ignore[reportAttributeAccessIssue] - CPython
