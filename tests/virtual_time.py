"""An event loop for tests whose clock stands still while there is something to do, and otherwise jumps to the next
timer.

A test on it waits for nothing: an hour of retries takes as long as its computations. Nor can it be too slow: no timer
runs while a task computes, while an executor works for the loop, or while a datagram is on its way on loopback.

Another process, and a thread that the loop did not start, goes by the wall clock. A test with one is marked
`real_time`. Product code under test gets its time from the loop.
"""

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

BEGINS_AT_S = 100_000.0
"""As monotonic clocks do, the loop's does not begin with 0."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def close(self) -> None:
        super().close()
        self._jumping.close()

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        """As the base class's; the clock stands still until the work is done."""
        work = super().run_in_executor(executor, func, *args)
        self._jumping.works += 1
        work.add_done_callback(self._worked)
        return work

    def _worked(self, work: object) -> None:
        self._jumping.works -= 1

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("another process goes by the wall clock: mark the test real_time")

    subprocess_shell = subprocess_exec


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class BoardClock:
    """`device_agent.ports.Clock` of a board that the loop runs."""

    def now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, it moves the time there; it does wait for `works` that are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINS_AT_S
        self.works = 0
        self._barrier = _Barrier()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the base class's. `timeout`: seconds until the next timer, None without one, 0 if a task is ready."""
        if timeout is not None and not self.works and len(self.get_map()) == 1:
            self.now += timeout  # there is no socket but the one by which threads wake the loop, and no thread
            return []
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None or self.works:
            return super().select(None)
        self._barrier.pass_through()
        events = super().select(0)
        if not events:
            self.now += timeout
        return events

    def close(self) -> None:
        self._barrier.close()
        super().close()


class _Barrier:
    """A datagram to oneself: once it is there, so is what was sent on loopback before it.

    The kernel hands on what one processor sends in order, and on a loaded machine later than `sendto` returns.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())

    def pass_through(self) -> None:
        self._socket.send(b"")
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()
