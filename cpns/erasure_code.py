"""A systematic Reed-Solomon code over GF(2^8): an object as k rows, which any k of 256 rows give back.

Rows 0 to k - 1 are the object itself. Repair row r, k <= r <= 255, is the sum over c < k of inverse(r xor c) times
source row c: a Cauchy matrix whose elements do not depend on k, in the field with the polynomial x^8 + x^4 + x^3 + x^2
+ 1 (0x11d). Every square part of a Cauchy matrix can be inverted, and there is a formula for it: so a decoder needs no
matrix, and works in the rows that it has received.
"""

from array import array

_POLYNOMIAL = 0x11D
_ORDER = 255  # of the multiplicative group; logarithms are counted modulo this
_LOG_0 = 512  # stands for the logarithm of 0: a sum with another logarithm lies where _EXP has only zeros

_EXP = bytearray(_LOG_0 + 2 * _ORDER)  # _EXP[log a + log b] = a b
_LOG = array("H", [_LOG_0] * 256)


def _fill():
    power = 1
    for exponent in range(_ORDER):
        _EXP[exponent] = _EXP[exponent + _ORDER] = power
        _LOG[power] = exponent
        power <<= 1
        if power > 255:
            power ^= _POLYNOMIAL


_fill()


def repair(source, index):
    """Return repair row `index` (k to 255) of the k rows in the list `source`, which have the same length."""
    row = bytearray(len(source[0]))
    for c in range(len(source)):
        _add(source[c], _ORDER - _LOG[index ^ c], row)
    return row


def decode(rows, k):
    """Compute the source rows that are missing, in steps that yield between rows.

    `rows` maps the indexes of at least k different rows to bytearrays of the same length. At the end it has all source
    rows, 0 to k - 1; repair rows that were used are gone from it, and their bytearrays were written over.
    """
    missing = [c for c in range(k) if c not in rows]
    if not missing:
        return
    used = [r for r in rows if r >= k][: len(missing)]
    length = len(rows[used[0]])
    for r in used:  # the known rows are taken out of each repair row, so that it is a sum of the missing ones
        for c in range(k):
            if c in rows:
                _add(rows[c], _ORDER - _LOG[r ^ c], rows[r])
        yield
    # What is left is a Cauchy matrix in used x missing. Its inverse has for row m and column r, with
    # r' in used and m' in missing:  prod(r' + m) prod(r + m') / ((r + m) prod[m' != m](m + m') prod[r' != r](r + r'))
    solved = [bytearray(length) for _ in missing]
    of_missing = [_product(m, used) - _product(m, missing) for m in missing]
    for r in used:
        of_r = _product(r, missing) - _product(r, used)
        row = rows.pop(r)
        for number, m in enumerate(missing):
            _add(row, (of_r + of_missing[number] - _LOG[r ^ m]) % _ORDER, solved[number])
        yield
    for number, m in enumerate(missing):
        rows[m] = solved[number]


def _product(one, others):
    # The logarithm of the product of all (one + other), other than one itself
    logarithm = 0
    for other in others:
        if other != one:
            logarithm += _LOG[one ^ other]
    return logarithm


def _add(row, factor, to):
    # to += row times the element with the logarithm `factor` (0 to 255)
    exp, log = _EXP, _LOG  # locals are faster than globals
    for place, octet in enumerate(row):
        to[place] ^= exp[log[octet] + factor]
