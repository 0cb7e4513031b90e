"""How busy a machine is while a test measures what a person waits for."""

import threading
import time
from types import TracebackType

_EVERY_S = 0.25
_WORK_S = 0.01


class Slowness:
    """Entered around what is measured. `times(seconds)` is how long that may take here.

    A thread computes for 10 ms of its own time, four times a second, and sees how long that takes: as often as the
    machine has something else to do meanwhile, so often it has for what is measured.
    """

    def __enter__(self) -> "Slowness":
        self._own = self._elapsed = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="slowness")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def times(self, seconds: float) -> float:
        """Return the time that takes `seconds` on a machine that does nothing else."""
        return seconds * max(1.0, self._elapsed / self._own) if self._own else seconds

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_S):
            begun, own = time.monotonic(), time.thread_time()
            while time.thread_time() - own < _WORK_S:
                pass
            self._own += time.thread_time() - own
            self._elapsed += time.monotonic() - begun
