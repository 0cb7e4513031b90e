"""The gateway's clocks: monotonic for every span of time, Unix time only while the system's clock is synchronised."""

import asyncio
import ctypes
import time

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised to a reliable server
_TIMEX_OCTETS = 512  # above the size of struct timex on every Linux


class SystemClock:
    """`core.ports.Clock` on Linux."""

    def monotonic(self) -> float:
        """Seconds since some moment, never going back: the event loop's time, which must be running."""
        return asyncio.get_running_loop().time()

    def unix(self) -> int:
        """Unix seconds, or 0 while the kernel says that nobody keeps the clock in step (SEC-05)."""
        return int(time.time()) if synchronised() else 0


def synchronised() -> bool:
    """Return True when the kernel's clock is disciplined by NTP or its like; False where that cannot be told."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS))
    except (OSError, AttributeError):
        return False
    return 0 <= int(state) < _TIME_ERROR
