"""A systematic Reed-Solomon code over GF(2^8): an object as k rows, which any k of 256 rows give back.

Rows 0 to k - 1 are the object itself. Repair row r, k <= r <= 255, is the sum over c < k of inverse(r xor c) times
source row c: a Cauchy matrix whose elements do not depend on k, in the field of `field_tables`. Every square part of a
Cauchy matrix can be inverted, and there is a formula for it: so a decoder needs no matrix. It needs the room of the
rows once more.
"""

from array import array

from cpns.field_tables import EXP, LOG, LOG_0

_ORDER = 255  # of the multiplicative group; logarithms are counted modulo this


def repair(source, index):
    """Return repair row `index` (k to 255) of the k rows in the list `source`, which have the same length."""
    row = bytearray(len(source[0]))
    logarithms = array("H", range(len(row)))
    for c in range(len(source)):
        _take_logarithms(source[c], 0, logarithms)
        _add(logarithms, -LOG[index ^ c] % _ORDER, row, 0)
    return row


def decode(rows, indexes):
    """Return a bytearray of the k source rows, in steps that yield between rows.

    `rows` is a bytearray of any k different rows of the same length, one after another, and `indexes` their k indexes.
    The repair rows in it are written over.
    """
    k = len(indexes)
    size = len(rows) // k
    source = bytearray(len(rows))
    logarithms = array("H", range(size))
    places = [place for place in range(k) if indexes[place] >= k]  # of repair rows
    used = bytes([indexes[place] for place in places])
    missing = bytes([c for c in range(k) if bytes((c,)) not in indexes])
    for place in range(k):  # the known rows are taken out of each repair row, so that it is a sum of the missing ones
        c = indexes[place]
        if c < k:
            source[c * size : c * size + size] = rows[place * size : place * size + size]
            if places:
                _take_logarithms(rows, place * size, logarithms)
                for other in places:
                    _add(logarithms, -LOG[indexes[other] ^ c] % _ORDER, rows, other * size)
                yield
    # What is left is a Cauchy matrix in used x missing. Its inverse has for row m and column r, with
    # r' in used and m' in missing:  prod(r' + m) prod(r + m') / ((r + m) prod[m' != m](m + m') prod[r' != r](r + r'))
    of_missing = []
    for m in missing:
        of_missing.append(_product(m, used) - _product(m, missing))
        yield
    for place in places:
        r = indexes[place]
        of_r = _product(r, missing) - _product(r, used)
        _take_logarithms(rows, place * size, logarithms)
        for number in range(len(missing)):
            m = missing[number]
            _add(logarithms, (of_r + of_missing[number] - LOG[r ^ m]) % _ORDER, source, m * size)
        yield
    return source


def _product(one, others):
    # The logarithm of the product of all (one + other), other than one itself
    logarithm = 0
    for other in others:
        if other != one:
            logarithm += LOG[one ^ other]
    return logarithm


def _take_logarithms(rows, at, logarithms):
    # Of the row at `at`, as it is multiplied by many elements
    for place in range(len(logarithms)):
        octet = rows[at + place]
        logarithms[place] = LOG[octet] if octet else LOG_0


def _add(logarithms, factor, to, at):
    # The row at `at` of `to` += the row times the element with the logarithm `factor` (0 to 254)
    exp = EXP  # a local is faster than a global
    for logarithm in logarithms:
        to[at] ^= exp[logarithm + factor]
        at += 1
