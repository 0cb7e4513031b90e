"""Whose turn it is, where only so much may happen at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway_agent.core.ports import NoAnswer

SILENT_AFTER_S = 1.0
"""A board that is up answers in less, unless a datagram is lost; a request to one that is not holds on for ten."""
SILENT_SHARE = 4
"""Silent PNEs get one of so many places."""


class Turns:
    """One piece of work at a time on each name; others wait in turn. A name that nobody works on is forgotten."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Inside of it nobody else is, for this name."""
        lock, waiting = self._waiting.get(name, (asyncio.Lock(), 0))
        self._waiting[name] = lock, waiting + 1
        try:
            async with lock:
                await asyncio.sleep(0)  # a thousand at once, none of which ever waits, must not stop all else
                yield
        finally:
            lock, waiting = self._waiting.pop(name)
            if waiting > 1:
                self._waiting[name] = lock, waiting - 1


class PlaceRequest:
    """One request to the PNE `pne_id`, as `PlaceQueue` knows it."""

    def __init__(self, pne_id: str) -> None:
        self.pne_id = pne_id


class PlaceQueue:
    """Which requests may be under way at the same time. Pure: it is told what happens, and says which may go now.

    A PNE is silent from when it did not answer until it is heard. Requests to PNEs that are not silent go first, in the
    order in which they came; silent ones hold a quarter of the places at most. A request that goes unanswered for a
    while counts as one of the silent from then on, so its place is free for another: at most the quarter is lost to
    PNEs that are switched off, however many they are.
    """

    def __init__(self, places: int) -> None:
        """`places`: at least 1."""
        self._places = places
        self._for_silent = max(1, places // SILENT_SHARE)
        self._silent: set[str] = set()
        self._waiting: dict[PlaceRequest, None] = {}
        self._waiting_silent: dict[PlaceRequest, None] = {}
        self._going: set[PlaceRequest] = set()
        self._going_silent: set[PlaceRequest] = set()

    def come(self, request: PlaceRequest) -> list[PlaceRequest]:
        """Let a request wait for a place. Every method returns the requests that go now, perhaps this one."""
        (self._waiting_silent if request.pne_id in self._silent else self._waiting)[request] = None
        return self._next()

    def leave(self, request: PlaceRequest) -> list[PlaceRequest]:
        """Note that a request has ended, or does not wait any more."""
        for waiting in (self._waiting, self._waiting_silent):
            waiting.pop(request, None)
        for going in (self._going, self._going_silent):
            going.discard(request)
        return self._next()

    def unanswered(self, request: PlaceRequest) -> list[PlaceRequest]:
        """No answer has come to a request so far, or none will come."""
        self._silent.add(request.pne_id)
        for other in [each for each in self._waiting if each.pne_id == request.pne_id]:
            del self._waiting[other]
            self._waiting_silent[other] = None
        for other in [each for each in self._going if each.pne_id == request.pne_id]:
            self._going.discard(other)
            self._going_silent.add(other)
        return self._next()

    def heard(self, pne_id: str) -> list[PlaceRequest]:
        """Something of this PNE has come in."""
        if pne_id not in self._silent:
            return []
        self._silent.discard(pne_id)
        for request in [each for each in self._waiting_silent if each.pne_id == pne_id]:
            del self._waiting_silent[request]
            self._waiting[request] = None
        return self._next()

    def _next(self) -> list[PlaceRequest]:
        chosen = []
        while self._waiting and len(self._going) + min(len(self._going_silent), self._for_silent) < self._places:
            request = next(iter(self._waiting))
            del self._waiting[request]
            self._going.add(request)
            chosen.append(request)
        while (
            self._waiting_silent
            and len(self._going_silent) < self._for_silent
            and len(self._going) + len(self._going_silent) < self._places
        ):
            request = next(iter(self._waiting_silent))
            del self._waiting_silent[request]
            self._going_silent.add(request)
            chosen.append(request)
        return chosen


class UnicastPlaces:
    """Places for requests to PNEs, given away by a `PlaceQueue`."""

    def __init__(self, places: int) -> None:
        """`places`: how many requests may be under way, at least 1."""
        self._queue = PlaceQueue(places)
        self._turns: dict[PlaceRequest, asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, pne_id: str) -> AsyncIterator[None]:
        """Wait for a place and hold it inside. NoAnswer that leaves it shows that the PNE is silent."""
        request, turn = PlaceRequest(pne_id), asyncio.Event()
        self._turns[request] = turn
        timer: asyncio.TimerHandle | None = None
        try:
            self._let_go(self._queue.come(request))
            await turn.wait()
            timer = asyncio.get_running_loop().call_later(SILENT_AFTER_S, self._unanswered, request)
            yield
        except NoAnswer:
            self._unanswered(request)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del self._turns[request]
            self._let_go(self._queue.leave(request))

    def heard(self, pne_id: str) -> None:
        """Something of this PNE has come in: it is not silent any more."""
        self._let_go(self._queue.heard(pne_id))

    def _unanswered(self, request: PlaceRequest) -> None:
        self._let_go(self._queue.unanswered(request))

    def _let_go(self, requests: list[PlaceRequest]) -> None:
        for request in requests:
            self._turns[request].set()
