"""Whether a gateway lives and is ready: for HTTP, MQTT, the command line and the watchdog. Answers have no names."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

LAG_MAX_S = 2.0
"""An event loop that is later than this does not live."""
_BEAT_S = 0.5
_BEATS_KEPT = 20
"""A lag is seen for so many beats, as nobody can ask while it lasts."""


@dataclass(frozen=True, slots=True)
class HealthView:
    """`not_live` and `not_ready`: why the gateway does not live, or is not ready, in words; empty if it does or is.

    `lag_s`: the worst lag of the event loop in the last ten seconds.
    """

    not_live: tuple[str, ...]
    not_ready: tuple[str, ...]
    lag_s: float

    @property
    def live(self) -> bool:
        """True if the event loop answers within `LAG_MAX_S`."""
        return not self.not_live

    @property
    def ready(self) -> bool:
        """True if the gateway lives, its store is open and writes, and a medium is up if there is one at all."""
        return not self.not_live and not self.not_ready


class LoopWatch:
    """Measures, in a task of its own, how late the event loop is. Times are in seconds."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=_BEATS_KEPT)
        self._due_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due_at = asyncio.get_running_loop().time() + _BEAT_S
        self._task = asyncio.create_task(self._run(), name="loop watch")

    @property
    def lag_s(self) -> float:
        """The worst lag that is kept, that of a beat which is overdue included."""
        now = asyncio.get_running_loop().time()
        return max(0.0, now - self._due_at if self._task is not None else 0.0, *self._lags, 0.0)

    async def close(self) -> None:
        """Stop to measure. Does nothing before `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._due_at = clock() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._lags.append(max(0.0, clock() - self._due_at))


class HealthWatch:
    """The health of one gateway, from `start` to `close`."""

    def __init__(self, store_trouble: Callable[[], str], no_network: Callable[[], str]) -> None:
        """Both return "" if nothing is wrong: `store_trouble` if the stores are open and can be written, `no_network`
        if a medium is up or none is wanted."""
        self._store_trouble = store_trouble
        self._no_network = no_network
        self._loop = LoopWatch()
        self._started = False
        self.close = self._loop.close

    def start(self) -> None:
        """Begin to measure the event loop; until then the gateway is not ready."""
        self._loop.start()
        self._started = True

    def view(self) -> HealthView:
        """Return the health at this moment."""
        lag_s = self._loop.lag_s
        slow = (f"the event loop was {lag_s:.1f} s late",) if lag_s > LAG_MAX_S else ()
        wrong = {
            "the gateway is starting": not self._started,
            "the store cannot be written": bool(self._store_trouble()),
            "no medium is up: no group key can be broadcast": bool(self._no_network()),
        }
        return HealthView(slow, tuple(text for text, is_so in wrong.items() if is_so), lag_s)
