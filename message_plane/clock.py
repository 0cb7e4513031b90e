"""The time by which the message plane measures spans: that of the event loop, whose timers it sets."""

import asyncio


def monotonic() -> float:
    """Seconds since some moment, never going back. To be called while an event loop runs."""
    return asyncio.get_running_loop().time()
