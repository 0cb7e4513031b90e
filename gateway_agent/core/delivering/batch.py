"""Collects confirmations for a short time, so that one synced commit stores many of them.

An SD card does 20 to 200 synced commits a second; a delivery to 1,000 PNEs may cost 20.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway_agent.store.errors import StoreFailed

COUNT_MAX = 250
WINDOW_MIN_S = 0.02
STORE_RETRY_S = 5.0  # pause before a failed write is tried again
WINDOW_MAX_S = 0.7  # a PNE repeats its confirmation after 1 s (RFC 7252 ACK_TIMEOUT)
WINDOWS_PER_LEISURE = 4


def window_s(leisure_s: float) -> float:
    """Return how long the first confirmation of a batch waits, in seconds. `leisure_s`: the leisure of the group."""
    return min(max(leisure_s / WINDOWS_PER_LEISURE, WINDOW_MIN_S), WINDOW_MAX_S)


@dataclass(slots=True)
class Outcomes:
    """The PNEs with an outcome since the last flush. A PNE is in one set only, that of its latest outcome."""

    answered: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.answered) + len(self.confirmed) + len(self.failed)

    def add(self, kind: str, pne_id: str) -> None:
        """Set the outcome of a PNE to `kind`, one of "answered", "confirmed" and "failed"."""
        for name in ("answered", "confirmed", "failed"):
            getattr(self, name).discard(pne_id)
        getattr(self, kind).add(pne_id)


class Batch:
    """Collects outcomes of one delivery and passes them to `flush` together, in the event loop's thread."""

    def __init__(self, flush: Callable[[Outcomes], None], window: float, expected: Callable[[], int]) -> None:
        """`window`: how long outcomes are collected, in seconds. `expected` returns how many outcomes can still come;
        the wait ends early when all of them are there."""
        self._flush = flush
        self._window = window
        self._expected = expected
        self._outcomes = Outcomes()
        self._stored: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kind: str, pne_id: str) -> "asyncio.Future[None]":
        """Add an outcome (`kind` as in `Outcomes.add`).

        Returns a future that is done when the outcome is stored, or has the exception that the store raised.
        """
        self._outcomes.add(kind, pne_id)
        stored = self._stored or self._wait(self._window)
        if len(self._outcomes) >= min(COUNT_MAX, self._expected()):
            self.flush()
        return stored

    def close(self) -> None:
        """Store nothing any more. Outcomes that are not stored are lost; after a restart the PNEs are asked again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._stored = None

    def flush(self) -> None:
        """Store the outcomes now.

        If the store fails, the waiting callers get StoreFailed, and the outcomes are kept and stored later. Raises any
        other exception of the `flush` function.
        """
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
            stored.exception()  # marks it as retrieved: asyncio must not log an error if no caller waits
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
