"""Processor time on a machine whose speed changes while it is measured: by heat, or by other guests of its host."""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from tools.bench.rows import median_ms

YARDSTICK = "SHA-256 of 64 octets"

_PASSES = 5
_HASHES = 1000


def side_by_side_ms(
    works: Sequence[Callable[[], object]], *, rounds: int, prepare: Callable[[], object], passes: int = _PASSES
) -> tuple[list[float], float]:
    """What each of `works` takes in milliseconds, and what one `YARDSTICK` took meanwhile in microseconds.

    The works take turns for `passes` times, so that none has a slow moment of the machine for itself. Of each it is
    the median over `rounds` calls in its quickest pass: the median is over what is worked on, which `prepare()` draws
    before each call; the quickest is over the state of the machine.
    """
    best = [float("inf")] * len(works)
    yardstick = float("inf")
    for _ in range(passes):
        for number, work in enumerate(works):
            best[number] = min(best[number], median_ms(work, rounds=rounds, prepare=prepare))
            yardstick = min(yardstick, yardstick_us())
    return best, yardstick


def yardstick_us() -> float:
    """Processor time of one `YARDSTICK` from Python, in microseconds: says how fast the machine is at this moment."""
    block = bytes(64)
    start = time.process_time()
    for _ in range(_HASHES):
        sha256(block).digest()
    return (time.process_time() - start) * 1e6 / _HASHES
