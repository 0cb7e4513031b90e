"""How much heap a scenario needs: the smallest that it passes with.

MicroPython collects garbage when the heap is full, so a heap's fill level says little and a peak counter counts
garbage. What can be trusted is a run that passes, and one a little smaller that does not.
"""

from collections.abc import Awaitable, Callable


async def smallest_heap(passes: Callable[[int], Awaitable[bool]], low_kib: int, high_kib: int) -> int:
    """The smallest heap in KiB, between `low_kib` (known or assumed to fail) and `high_kib`, for which `passes`
    returns True, found by halving the interval. Raises ValueError if `high_kib` is not enough.
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
