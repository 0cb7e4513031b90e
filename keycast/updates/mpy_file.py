"""The form of a .mpy file of version 6 without machine code: whether it is whole.

A board reads behind the end of one that is cut: MicroPython's importer (`py/persistentcode.c`) trusts its numbers.
"""

_HEAD = 4  # "M", version, flags, bits of a small integer
_CONSTANTS_MAX = 4  # types of objects up to this one are constants, such as None
_TEXTS = (5, 6)  # str and bytes, which have a zero behind them; of other types numbers are kept as text
_TUPLE = 10
_OTHER_KINDS, _HAS_CHILDREN, _SIZE_AT = 0b11, 0b100, 3  # of a function; the kinds are those of machine code
_NUMBER_MAX = 1 << 28  # no file has so many octets; a number may also be that of a name which each firmware has
_DEPTH_MAX = 64  # of functions, and of tuples, in each other; a board has no stack for more


class _NotWhole(Exception):
    """The octets are not what the numbers before them say."""


def is_whole(octets: bytes) -> bool:
    """Return True if a .mpy file, whose head was looked at, has all that it announces, and nothing behind that."""
    walk = _Walk(octets)
    try:
        names, objects = walk.number(), walk.number()
        for _ in range(names):
            walk.name()
        for _ in range(objects):
            walk.object(_DEPTH_MAX)
        walk.function(_DEPTH_MAX)
    except _NotWhole:
        return False
    return walk.at == len(octets)


class _Walk:
    """Goes through a file; `at` is the place of the octet that is next. Raises _NotWhole."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.at = _HEAD

    def number(self) -> int:
        value = 0
        while True:
            octet = self._octet()
            value = value << 7 | octet & 0x7F
            if value > _NUMBER_MAX:
                raise _NotWhole
            if not octet & 0x80:
                return value

    def name(self) -> None:
        number = self.number()
        if not number & 1:  # else it is one of those that each firmware has
            self._skip((number >> 1) + 1)

    def object(self, depth: int) -> None:
        kind = self._octet()
        if kind > _TUPLE or not depth:
            raise _NotWhole
        if kind <= _CONSTANTS_MAX:
            return
        number = self.number()
        if kind == _TUPLE:
            for _ in range(number):
                self.object(depth - 1)
        else:
            self._skip(number + (kind in _TEXTS))

    def function(self, depth: int) -> None:
        number = self.number()
        if number & _OTHER_KINDS or not depth:
            raise _NotWhole
        self._skip(number >> _SIZE_AT)
        if number & _HAS_CHILDREN:
            for _ in range(self.number()):
                self.function(depth - 1)

    def _octet(self) -> int:
        if self.at >= len(self._octets):
            raise _NotWhole
        self.at += 1
        return self._octets[self.at - 1]

    def _skip(self, octets: int) -> None:
        self.at += octets
