"""Waiting in a test until other tasks have done something: by a condition, never by a time that a slow machine may
exceed."""

import asyncio
from collections.abc import Callable

PATIENCE_S = 300.0
"""Only what is broken takes so long."""


async def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Return once `condition()` holds. Raises TimeoutError after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
