"""Decides whether an address may try a password now. Without a clock of its own.

An address has a few wrong passwords a minute. All addresses from which nobody has logged in yet have some more in
common, so that many addresses guess no faster than a few. What strangers do does not count for an address from which
somebody has logged in, so they cannot lock the people of the house out (SEC-35).
"""

from collections import deque
from collections.abc import Callable

from gateway_agent.web import tuning

_Times = deque[float]


class Failures:
    """The wrong passwords of the last minute. `clock` returns seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of: dict[str, _Times] = {}
        self._of_strangers: _Times = deque()
        self._known: dict[str, None] = {}  # from which somebody has logged in, longest ago first

    def wait_s(self, address: str) -> float:
        """Return the seconds until `address` may try again, 0.0 if it may now."""
        since = self._clock() - tuning.FAILURE_WINDOW_S
        for each, times in list(self._of.items()):
            _forget(times, since)
            if not times:
                del self._of[each]
        _forget(self._of_strangers, since)
        waits = [_wait(self._of.get(address, deque()), tuning.FAILURES, since)]
        if address not in self._known:
            waits.append(_wait(self._of_strangers, tuning.FAILURES_OF_ALL, since))
        return max(waits)

    def begun(self, address: str) -> None:
        """Count a try as a failure until `succeeded`, so that tries at the same time are counted, too."""
        now = self._clock()
        self._of.setdefault(address, deque()).append(now)
        if address not in self._known:
            self._of_strangers.append(now)

    def succeeded(self, address: str) -> None:
        """Note that somebody has logged in from `address`: its failures are forgotten."""
        own = self._of.pop(address, deque())
        if address not in self._known:
            for each in own:
                self._of_strangers.remove(each)
        self._known.pop(address, None)
        self._known[address] = None
        while len(self._known) > tuning.KNOWN_ADDRESSES:
            del self._known[next(iter(self._known))]


def _forget(times: _Times, since: float) -> None:
    while times and times[0] <= since:
        times.popleft()


def _wait(times: _Times, most: int, since: float) -> float:
    return times[-most] - since if len(times) >= most else 0.0
