"""The clock of the message plane for durations: the time of the event loop, whose timers it also uses."""

import asyncio


def monotonic() -> float:
    """Return seconds since an arbitrary moment, which never go back. An event loop must be running."""
    return asyncio.get_running_loop().time()
