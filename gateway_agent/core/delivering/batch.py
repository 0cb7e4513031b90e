"""Confirmations wait a moment for each other, so that one synced commit stores many of them.

An SD card does 20 to 200 synced commits a second; a delivery to 1,000 PNEs may cost 20.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway_agent.store.errors import StoreFailed

COUNT_MAX = 250
WINDOW_MIN_S = 0.02
STORE_RETRY_S = 5.0  # what could not be stored is tried again
WINDOW_MAX_S = 0.7  # a PNE repeats its confirmation after 1 s (RFC 7252 ACK_TIMEOUT)
WINDOWS_PER_LEISURE = 4


def window_s(leisure_s: float) -> float:
    """Return how long the first confirmation of a batch waits, in seconds, in a group with this leisure."""
    return min(max(leisure_s / WINDOWS_PER_LEISURE, WINDOW_MIN_S), WINDOW_MAX_S)


@dataclass(slots=True)
class Outcomes:
    """What came in since the last flush. A PNE may stand in one set only; the later word holds."""

    answered: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.answered) + len(self.confirmed) + len(self.failed)

    def add(self, kind: str, pne_id: str) -> None:
        """`kind`: "answered", "confirmed" or "failed"."""
        for name in ("answered", "confirmed", "failed"):
            getattr(self, name).discard(pne_id)
        getattr(self, kind).add(pne_id)


class Batch:
    """Collects outcomes of one delivery and hands them to `flush` together, in the event loop's thread."""

    def __init__(self, flush: Callable[[Outcomes], None], window: float, expected: Callable[[], int]) -> None:
        """`window` in seconds; `expected()`: how many outcomes could still come, to end the wait early."""
        self._flush = flush
        self._window = window
        self._expected = expected
        self._outcomes = Outcomes()
        self._stored: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kind: str, pne_id: str) -> "asyncio.Future[None]":
        """Add an outcome; the future is done when it is stored, or fails with what the store raised."""
        self._outcomes.add(kind, pne_id)
        stored = self._stored or self._wait(self._window)
        if len(self._outcomes) >= min(COUNT_MAX, self._expected()):
            self.flush()
        return stored

    def close(self) -> None:
        """Store nothing any more: whatever could not be stored is said again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._stored = None

    def flush(self) -> None:
        """Store now what is there. What a medium refuses is told to who waits, stays here and is tried again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stored, self._stored = self._stored, None
        if stored is None:
            return
        outcomes, self._outcomes = self._outcomes, Outcomes()
        try:
            self._flush(outcomes)
        except Exception as error:
            stored.set_exception(error)
            stored.exception()  # whoever waits gets it; nobody waiting is no second error
            if not isinstance(error, StoreFailed):
                raise
            self._outcomes = outcomes
            self._wait(STORE_RETRY_S)
        else:
            stored.set_result(None)

    def _wait(self, seconds: float) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        self._stored = loop.create_future()
        self._timer = loop.call_later(seconds, self.flush)
        return self._stored
