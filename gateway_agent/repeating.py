"""Work of a gateway that is done again and again, beside everything else."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


class Repeating:
    """Calls `work`, a function or coroutine function, from `start` to `close`, with `every_s` seconds in between.

    A fault in `work` is logged, once however often it comes again, and ends nothing: the next turn may succeed.
    """

    def __init__(
        self, name: str, every_s: float, work: Callable[[], Awaitable[None] | None], *, at_once: bool = False
    ) -> None:
        """`name` says in the log what is done. `at_once`: for the first time as soon as it starts."""
        self._name = name
        self._every_s = every_s
        self._work = work
        self._first_pause_s = 0.0 if at_once else every_s
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    @property
    def started(self) -> bool:
        """True from `start` to `close`."""
        return self._task is not None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """End, in the middle of a turn too. Calling it twice, or before `start`, does nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        await asyncio.sleep(self._first_pause_s)
        while True:
            try:
                turn = self._work()
                if inspect.isawaitable(turn):
                    await turn
                self._failing = False
            except Exception:  # noqa: BLE001 - whatever it is, the turns after it are wanted
                if not self._failing:
                    _log.exception("%s: a turn ended in a fault of this program; the next one comes", self._name)
                self._failing = True
            await asyncio.sleep(self._every_s)
