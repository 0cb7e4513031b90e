"""The events of a gateway, numbered and kept for a while, for any number of readers.

    stream = EventStream()
    stream(event)                                   # the gateway's `Tell`
    with stream.subscribe() as subscription:
        async for stamped in subscription: ...

Telling an event costs a few assignments for each reader, and never waits: a reader that is too slow loses the oldest
events that it has not read, and can see how many. Everything runs in the thread of one event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from gateway_agent.core.events import Event, Tell, nobody

WAITING_MAX = 256
"""Events that wait for one reader."""
KEPT = 500
"""The newest events, kept for readers that come later."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event with its `number`, from 1 since the start of the process, and `at`, Unix seconds of this machine."""

    number: int
    at: float
    event: Event


class Subscription(AsyncIterator[Stamped]):
    """The events for one reader, from its subscription on, oldest first. `lost` counts those it was too slow for."""

    def __init__(self, forget: "Callable[[Subscription], None]") -> None:
        self.lost = 0
        self._forget = forget
        self._waiting: deque[Stamped] = deque(maxlen=WAITING_MAX)
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __anext__(self) -> Stamped:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._waiting.popleft()

    def put(self, stamped: Stamped) -> None:
        """Append an event. The oldest one is lost if the reader has not read the last `WAITING_MAX`."""
        self.lost += len(self._waiting) == WAITING_MAX
        self._waiting.append(stamped)
        self._wake_up()

    def take(self) -> list[Stamped]:
        """Return all that waits, without waiting for more."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def close(self) -> None:
        """End the subscription; the reader still gets what waits for it."""
        self._closed = True
        self._forget(self)
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class EventStream:
    """The `Tell` of a gateway. Calling it passes an event to `first` at once, and to each subscription."""

    def __init__(self, first: Tell = nobody, wall_clock: Callable[[], float] = time.time) -> None:
        """`first` writes the log; `wall_clock` returns Unix seconds."""
        self._first = first
        self._wall_clock = wall_clock
        self._kept: deque[Stamped] = deque(maxlen=KEPT)
        self._followers: list[Tell] = []
        self._subscriptions: list[Subscription] = []
        self.number = 0
        """The number of the newest event, 0 before the first one."""

    def __call__(self, event: Event) -> None:
        self.number += 1
        stamped = Stamped(self.number, self._wall_clock(), event)
        self._kept.append(stamped)
        for subscription in self._subscriptions:
            subscription.put(stamped)
        for follower in self._followers:
            follower(event)
        self._first(event)

    def follow(self, follower: Tell) -> None:
        """Call `follower` with each event while it is told. It must be quick, and raise nothing: it is for counting."""
        self._followers.append(follower)

    def subscribe(self) -> Subscription:
        """Return a new subscription. Its reader closes it, for example by `with`."""
        subscription = Subscription(self._subscriptions.remove)
        self._subscriptions.append(subscription)
        return subscription

    def recent(self, count: int = KEPT) -> list[Stamped]:
        """Return the last `count` events or, of those that are kept, all, oldest first."""
        return list(self._kept)[-count:] if count > 0 else []
