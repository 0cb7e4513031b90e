"""Turns and places: limits on how many pieces of work run at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway_agent.core.ports import NoAnswer

SILENT_AFTER_S = 1.0
"""A board that is up answers in less time, unless a datagram is lost; a request to a board that is not up lasts about
ten seconds."""
SILENT_SHARE = 4
"""Silent PNEs may hold one place of this many."""


class Turns:
    """Locks by name: one task at a time holds a name, the others wait in their order. A free name is forgotten."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for the turn of this task on `name` and hold the name inside of the context."""
        lock, waiting = self._waiting.get(name, (asyncio.Lock(), 0))
        self._waiting[name] = lock, waiting + 1
        try:
            async with lock:
                await asyncio.sleep(0)  # a thousand tasks in a row that never have to wait must not block the loop
                yield
        finally:
            lock, waiting = self._waiting.pop(name)
            if waiting > 1:
                self._waiting[name] = lock, waiting - 1


class PlaceRequest:
    """One request to the PNE `pne_id`; each object is another request."""

    def __init__(self, pne_id: str) -> None:
        self.pne_id = pne_id


class PlaceQueue:
    """A queue that decides which requests may be under way at the same time. It does no I/O: its methods are told what
    happens, and each returns the requests that begin now.

    A PNE is silent from the moment it did not answer until something comes from it. Requests to PNEs that are not
    silent go first, in the order in which they came; requests to silent PNEs hold a quarter of the places at most. A
    request that stays unanswered for a while counts as one to a silent PNE from then on, so its place becomes free for
    another. PNEs that are switched off can thus block at most this quarter, however many they are.
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
        """Add a request that wants a place; return the requests that begin now, which may include this one."""
        (self._waiting_silent if request.pne_id in self._silent else self._waiting)[request] = None
        return self._next()

    def leave(self, request: PlaceRequest) -> list[PlaceRequest]:
        """Remove a request that has ended or does not wait any more; return the requests that begin now."""
        for waiting in (self._waiting, self._waiting_silent):
            waiting.pop(request, None)
        for going in (self._going, self._going_silent):
            going.discard(request)
        return self._next()

    def unanswered(self, request: PlaceRequest) -> list[PlaceRequest]:
        """Note that a request has no answer so far, or will get none; return the requests that begin now."""
        self._silent.add(request.pne_id)
        for other in [each for each in self._waiting if each.pne_id == request.pne_id]:
            del self._waiting[other]
            self._waiting_silent[other] = None
        for other in [each for each in self._going if each.pne_id == request.pne_id]:
            self._going.discard(other)
            self._going_silent.add(other)
        return self._next()

    def heard(self, pne_id: str) -> list[PlaceRequest]:
        """Note that this PNE has sent something; return the requests that begin now."""
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
    """Places for requests to PNEs, which a `PlaceQueue` assigns."""

    def __init__(self, places: int) -> None:
        """`places`: how many requests may be under way, at least 1."""
        self._queue = PlaceQueue(places)
        self._turns: dict[PlaceRequest, asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, pne_id: str) -> AsyncIterator[None]:
        """Wait for a place and hold it inside of the context. A NoAnswer raised in it marks the PNE as silent."""
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
        """Note that this PNE has sent something, so it is not silent any more."""
        self._let_go(self._queue.heard(pne_id))

    def _unanswered(self, request: PlaceRequest) -> None:
        self._let_go(self._queue.unanswered(request))

    def _let_go(self, requests: list[PlaceRequest]) -> None:
        for request in requests:
            self._turns[request].set()
