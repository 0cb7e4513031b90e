"""The order in which the adverts of several datagrams share one BLE radio. There is no clock and no I/O in here.

An object of k rows has 256 different adverts for each frame key: its rows, 0 to k - 1, then repair rows up to 255. A
board needs any k of them (`cpns.erasure_code`). One airing is a burst of them. Another airing of the same datagram goes
on behind the last advert that was sent, because a board that has heard some adverts needs others, not the same again.
Airings take turns, one advert each. Only few objects do so at the same time, as a board receives few at the same time.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

ROWS = 256
REMEMBERED_MAX = 64
"""Datagrams whose place in the order of their adverts is remembered after their airings have ended."""

OBJECTS_AT_ONCE = 2
"""Objects that take turns. A board collects the rows of tuning.ADVERT_OBJECTS_MAX, whether it is a member or not, and
some of that is left to what strangers send."""


def burst(rows: int) -> int:
    """Return how many adverts of an object of so many rows are sent for one airing.

    With half of the adverts lost, 95 of 100 receivers have the object after so many (6 to 60 rows).
    """
    return ceil(2 * rows + 2.5 * sqrt(rows))


@dataclass(frozen=True, slots=True)
class Adverts:
    """The adverts of one datagram.

    `name` is equal for equal datagrams; `rows`: how many rows the datagram has; `keys`: under how many frame keys it is
    sent; `advert(key, index)` returns the advert of row `index` (0 to 255) under the frame key of that number.
    """

    name: bytes
    rows: int
    keys: int
    advert: Callable[[int, int], bytes]

    @property
    def burst(self) -> int:
        """How many adverts are sent for one airing, under all keys together."""
        return self.keys * burst(self.rows)


class Schedule:
    """The airings that are under way, each with a number. The number of an airing that has ended is not used again.

    OBJECTS_AT_ONCE objects, and all datagrams of one row, take turns. Other objects wait in the order in which they
    were begun.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[int, tuple[Adverts, int]] = OrderedDict()  # with the adverts left; the first is next
        self._waiting: OrderedDict[int, Adverts] = OrderedDict()
        self._places: OrderedDict[bytes, int] = OrderedDict()  # name -> adverts sent so far; the last is the newest
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._turns) + len(self._waiting)

    def begin(self, adverts: Adverts) -> int:
        """Add an airing, one burst; return its number."""
        self._last_number += 1
        if adverts.rows == 1:
            self._turns[self._last_number] = adverts, adverts.burst
        else:
            self._waiting[self._last_number] = adverts
            self._admit()
        return self._last_number

    def stop(self, number: int) -> None:
        """Remove an airing: `next` returns no advert of it any more. Does nothing if it has ended."""
        self._waiting.pop(number, None)
        self._turns.pop(number, None)
        self._admit()

    def clear(self) -> None:
        """Remove all airings. Their places are remembered."""
        self._waiting.clear()
        self._turns.clear()

    def next(self) -> tuple[int, bytes, bool] | None:
        """Return the next advert: (number of its airing, advert, True if it is the last one of the airing).

        Returns None if no airing is under way.
        """
        if not self._turns:
            return None
        number, (adverts, left) = self._turns.popitem(last=False)
        place = self._places.pop(adverts.name, 0)
        self._places[adverts.name] = place + 1
        if len(self._places) > REMEMBERED_MAX + len(self._turns) + 1:
            self._places.popitem(last=False)
        if left > 1:
            self._turns[number] = adverts, left - 1
        else:
            self._admit()
        index, key = divmod(place, adverts.keys)
        return number, adverts.advert(key, index % ROWS), left == 1

    def _admit(self) -> None:
        """Let waiting objects take turns, as long as there is room for one more."""
        objects = sum(adverts.rows > 1 for adverts, _ in self._turns.values())
        while self._waiting and objects < OBJECTS_AT_ONCE:
            number, adverts = self._waiting.popitem(last=False)
            self._turns[number] = adverts, adverts.burst
            objects += 1
