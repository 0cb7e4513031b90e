"""How many adverts must be sent until a board has an object of k rows: codes beside each other, under losses.

Every code sends the k source rows first, one in each advert. A model of loss says which of the adverts one board hears;
each board is drawn by itself.
"""

import math
import random
from collections.abc import Callable, Iterator
from functools import cache

from cpns.advert_build import INDEXES

EVENT_S = 0.027  # from advert to advert: 20 ms, up to 10 ms at random, and what the kernel takes
WINDOW_S = 0.1024  # of a radio that also listens to Wi-Fi: half of it is left for Bluetooth

Heard = Iterator[bool]
"""For each advert in turn, True if the board hears it. It never ends."""
Loss = Callable[[random.Random], Heard]
Code = Callable[[int, Heard], int]
"""Returns the number of adverts sent until the object of k rows is complete."""


def independent(loss: float) -> Loss:
    """Return the model that loses each advert by itself, with this probability."""

    def heard(chance: random.Random) -> Heard:
        while True:
            yield chance.random() >= loss

    return heard


def bursts(loss: float, length: float = 8) -> Loss:
    """Return the model that loses this share of the adverts in bursts of `length` on average (Gilbert)."""
    ends, begins = 1 / length, loss / (1 - loss) / length

    def heard(chance: random.Random) -> Heard:
        lost = chance.random() < loss
        while True:
            yield not lost
            lost = chance.random() >= ends if lost else chance.random() < begins

    return heard


def window(loss: float) -> Loss:
    """Return the model of a radio that listens in every first half of WINDOW_S, and loses this share of what it hears.

    Adverts come every 20 to 30 ms.
    """

    def heard(chance: random.Random) -> Heard:
        at = chance.random() * WINDOW_S
        while True:
            yield at % WINDOW_S < WINDOW_S / 2 and chance.random() >= loss
            at += 0.020 + 0.010 * chance.random()

    return heard


LOSSES: dict[str, Loss] = {
    "10 % lost": independent(0.1),
    "30 % lost": independent(0.3),
    "50 % lost": independent(0.5),
    "75 % lost": independent(0.75),
    "30 % lost in bursts of 8": bursts(0.3),
    "half of each 102 ms heard": window(0.1),
}


def reed_solomon(k: int, heard: Heard) -> int:
    """Our code: any k different rows of 256 are enough (`cpns/erasure_code.py`)."""
    return _distinct(k, heard, INDEXES)


def repetition(k: int, heard: Heard) -> int:
    """No code: the k rows again and again."""
    return _distinct(k, heard, k)


def binary(k: int, heard: Heard) -> int:
    """A code over GF(2): repair rows are sums of source rows drawn at random, and the decoder solves for them."""
    masks = _random_masks(k)
    pivots: dict[int, int] = {}
    for sent, there in enumerate(heard):
        if not there:
            continue
        row = 1 << sent if sent < k else masks[sent % len(masks)]
        while row:
            low = row & -row
            if low not in pivots:
                pivots[low] = row
                break
            row ^= pivots[low]
        if len(pivots) == k:
            return sent + 1
    raise AssertionError("a board hears adverts without end")


def luby(k: int, heard: Heard) -> int:
    """An LT code: repair rows of robust soliton degrees, and the decoder only takes out what it knows."""
    masks = _soliton_masks(k)
    known, waiting = 0, list[int]()
    for sent, there in enumerate(heard):
        if not there:
            continue
        waiting.append(1 << sent if sent < k else masks[sent % len(masks)])
        found = True
        while found:
            found, rest = False, []
            for row in waiting:
                row &= ~known
                if row & (row - 1):
                    rest.append(row)
                elif row:
                    known |= row
                    found = True
            waiting = rest
        if known == (1 << k) - 1:
            return sent + 1
    raise AssertionError("a board hears adverts without end")


CODES: dict[str, Code] = {"Reed-Solomon": reed_solomon, "GF(2)": binary, "LT": luby, "repetition": repetition}


def sent_until_decoded(code: Code, k: int, loss: Loss, boards: int, seed: int = 1) -> list[int]:
    """Return how many adverts were sent until each of so many boards had its object, in ascending order."""
    chance = random.Random(seed)
    return sorted(code(k, loss(chance)) for _ in range(boards))


def percentile(ordered: list[int], share: float) -> int:
    """Return the value that `share` (0 to 1) of the ordered values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def until_the_last(ordered: list[int], boards: int) -> float:
    """Return the mean, over many homes of so many boards, of the adverts until the last board has its object.

    `ordered` are the values of boards drawn from all of these homes.
    """
    mean, below = 0.0, 0.0
    for place, value in enumerate(ordered, 1):
        upto = (place / len(ordered)) ** boards
        mean += value * (upto - below)
        below = upto
    return mean


def _distinct(k: int, heard: Heard, cycle: int) -> int:
    rows = set()
    for sent, there in enumerate(heard):
        if there:
            rows.add(sent % cycle)
            if len(rows) == k:
                return sent + 1
    raise AssertionError("a board hears adverts without end")


_MASKS = 2000


@cache
def _random_masks(k: int) -> list[int]:
    chance = random.Random(k)
    return [chance.getrandbits(k) or 1 for _ in range(_MASKS)]


@cache
def _soliton_masks(k: int, c: float = 0.05, delta: float = 0.5) -> list[int]:
    ripple = max(1.0, c * math.log(k / delta) * math.sqrt(k))
    spike = max(1, min(k, int(k / ripple)))
    weights = [1 / k] + [1 / (degree * (degree - 1)) for degree in range(2, k + 1)]
    for degree in range(1, spike):
        weights[degree - 1] += ripple / (degree * k)
    weights[spike - 1] += ripple * math.log(ripple / delta) / k if ripple > delta else 0
    chance = random.Random(k)
    degrees = chance.choices(range(1, k + 1), weights, k=_MASKS)
    return [sum(1 << row for row in chance.sample(range(k), degree)) for degree in degrees]
