"""The smallest heap with which a scenario passes.

MicroPython collects garbage when the heap is full, so a heap's fill level says little and a peak counter counts
garbage. A run that passes can be trusted, if one with a slightly smaller heap does not.
"""

from collections.abc import Awaitable, Callable


async def smallest_heap(passes: Callable[[int], Awaitable[bool]], low_kib: int, high_kib: int) -> int:
    """Return the smallest heap in KiB for which `passes` returns True, found by halving the interval.

    `low_kib` is known or assumed to fail. Raises ValueError if `high_kib` is not enough.
    """
    if not await passes(high_kib):
        raise ValueError(f"{high_kib} KiB are not enough")
    while high_kib - low_kib > 1:
        middle = (low_kib + high_kib) // 2
        if await passes(middle):
            high_kib = middle
        else:
            low_kib = middle
    return high_kib
