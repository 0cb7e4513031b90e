"""Work that a gateway repeats in the background."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


class Repeating:
    """Calls `work`, a function or coroutine function, from `start` to `close`, with a pause of `every_s` seconds.

    An exception of `work` is logged, only once if the following turns fail, too. The turns go on, as the next one may
    succeed.
    """

    def __init__(
        self, name: str, every_s: float, work: Callable[[], Awaitable[None] | None], *, at_once: bool = False
    ) -> None:
        """`name` describes the work in the log. `at_once`: the first turn begins without a pause."""
        self._name = name
        self._every_s = every_s
        self._work = work
        self._first_pause_s = 0.0 if at_once else every_s
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    @property
    def started(self) -> bool:
        """True between `start` and `close`."""
        return self._task is not None

    def start(self) -> None:
        """Start the turns."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Cancel the turns, also during one. Does nothing before `start` or when called again."""
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
            except Exception:  # noqa: BLE001 - no exception may end the turns
                if not self._failing:
                    _log.exception("KC1412 %s: a turn ended in a fault of this program; the next one comes", self._name)
                self._failing = True
            await asyncio.sleep(self._every_s)
