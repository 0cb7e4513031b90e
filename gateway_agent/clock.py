"""The gateway's clocks: monotonic time for durations, and Unix time while the system clock is synchronised."""

import asyncio
import ctypes
import time

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised to a reliable server
_TIMEX_OCTETS = 512  # more than struct timex has on any Linux


class SystemClock:
    """Implements `core.ports.Clock` on Linux."""

    def monotonic(self) -> float:
        """Return the time of the running event loop, in seconds, which never goes back."""
        return asyncio.get_running_loop().time()

    def unix(self) -> int:
        """Return Unix seconds, or 0 while the kernel says that the clock is not synchronised (SEC-05)."""
        return int(time.time()) if synchronised() else 0


def synchronised() -> bool:
    """Return True if the kernel's clock is synchronised by NTP or the like; False also if that cannot be found out."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS))
    except (OSError, AttributeError):
        return False
    return 0 <= int(state) < _TIME_ERROR
