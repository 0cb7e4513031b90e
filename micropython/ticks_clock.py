"""`ports.Clock` over `time.ticks_ms`, which wraps after 6 or 12 days."""

import time


class TicksClock:
    """Must be asked at least once in six days, which the agent does many times a second."""

    def __init__(self):
        self._last = time.ticks_ms()
        self._now = 0

    def now(self):
        ticks = time.ticks_ms()
        self._now += time.ticks_diff(ticks, self._last)
        self._last = ticks
        return self._now
