"""Processor time on a machine whose speed changes during a measurement, by heat or by other guests of its host."""

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
    """Return the milliseconds of each of `works`, and the microseconds of one `YARDSTICK` meanwhile.

    The works take turns for `passes` times, so that a slow moment of the machine does not affect only one of them. The
    result of each is the median over `rounds` calls in its quickest pass: the median evens out the inputs, which
    `prepare()` draws before each call, and the quickest pass the state of the machine.
    """
    best = [float("inf")] * len(works)
    yardstick = float("inf")
    for _ in range(passes):
        for number, work in enumerate(works):
            best[number] = min(best[number], median_ms(work, rounds=rounds, prepare=prepare))
            yardstick = min(yardstick, yardstick_us())
    return best, yardstick


def yardstick_us() -> float:
    """Return the processor time of one `YARDSTICK` from Python, in microseconds: a measure of the machine's speed."""
    block = bytes(64)
    start = time.process_time()
    for _ in range(_HASHES):
        sha256(block).digest()
    return (time.process_time() - start) * 1e6 / _HASHES
