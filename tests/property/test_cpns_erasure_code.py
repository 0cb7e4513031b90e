"""The erasure code of adverts: any k rows give the object back, and its field and matrices are those of a library."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfinite.ffield import FField  # type: ignore[import-untyped]
from pyfinite.genericmatrix import GenericMatrix  # type: ignore[import-untyped]

from cpns import erasure_code, field_tables
from cpns.tuning import ADVERT_ROWS_MAX as ROWS_MAX

ROWS = 256
FIELD = FField(8, gen=0x11D, useLUT=0)
INVERSE = [0] + [FIELD.Inverse(element) for element in range(1, 256)]


def decoded(rows, indexes):
    """Return the source rows that the decoder makes of these rows."""
    steps = erasure_code.decode(bytearray(b"".join(rows)), bytes(indexes))
    try:
        while True:
            next(steps)
    except StopIteration as end:
        source, size = bytes(end.value), len(rows[0])
        return [source[at : at + size] for at in range(0, len(source), size)]


def row(source, index):
    return source[index] if index < len(source) else bytes(erasure_code.repair(source, index))


def unit_rows(k):
    return [bytes(c) + b"\1" + bytes(k - 1 - c) for c in range(k)]


def test_the_tables_are_those_of_the_library():
    power = 1
    for exponent in range(255):
        assert field_tables.EXP[exponent] == power and field_tables.LOG[power] == exponent
        power = FIELD.Multiply(power, 2)
    assert len(field_tables.LOG) == 256 and len(field_tables.EXP) == field_tables.LOG_0 + 255
    assert field_tables.EXP[255:] == field_tables.EXP[:254] + bytes(255)


def test_every_product_is_that_of_the_library():
    """Repair row r of an object of one row is that row times the inverse of r."""
    elements = bytes(range(256))
    for r in range(1, ROWS):
        assert list(erasure_code.repair([elements], r)) == [FIELD.Multiply(INVERSE[r], each) for each in elements]


def test_every_repair_row_is_a_row_of_the_cauchy_matrix():
    """Of an object that is the unit matrix, repair row r is row r of the matrix itself."""
    chance = random.Random(1)
    for k in range(1, ROWS_MAX + 1):
        source = unit_rows(k)
        for r in range(k, ROWS) if k in (6, ROWS_MAX) else (k, ROWS - 1, *chance.sample(range(k, ROWS), 4)):
            assert list(erasure_code.repair(source, r)) == [INVERSE[r ^ c] for c in range(k)]


def test_every_size_is_decoded_from_any_rows():
    """The library computes the rows, and the decoder's values are those of the source."""
    chance = random.Random(2)
    for k in range(1, ROWS_MAX + 1):
        source = [chance.randbytes(2) for _ in range(k)]
        for indexes in (list(range(ROWS - k, ROWS)), chance.sample(range(ROWS), k)):
            assert decoded([by_library(source, r) for r in indexes], indexes) == source


def by_library(source, r):
    if r < len(source):
        return source[r]
    octets = [0] * len(source[0])
    for c, each in enumerate(source):
        octets = [sum_ ^ FIELD.Multiply(INVERSE[r ^ c], octet) for sum_, octet in zip(octets, each, strict=True)]
    return bytes(octets)


@pytest.mark.parametrize("k", [1, 2, 6, 11, 20])
def test_the_decoder_is_the_inverse_matrix_of_the_library(k):
    """With the unit matrix as the rows that were received, the decoder's values are the inverse matrix itself."""
    chance = random.Random(k)
    for indexes in (list(range(ROWS - k, ROWS)), chance.sample(range(ROWS), k)):
        matrix = GenericMatrix((k, k), 0, 1, FIELD.Add, FIELD.Subtract, FIELD.Multiply, FIELD.Divide)
        for place, r in enumerate(indexes):
            matrix.SetRow(place, [int(r == c) if r < k else INVERSE[r ^ c] for c in range(k)])
        inverse = matrix.Inverse()
        assert decoded(unit_rows(k), indexes) == [bytes(inverse.GetRow(c)) for c in range(k)]


@given(st.data())
def test_any_rows_in_any_order_give_the_object_back(data):
    k = data.draw(st.integers(1, ROWS_MAX))
    size = data.draw(st.integers(1, 19))
    source = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=k, max_size=k))
    indexes = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=k, max_size=k, unique=True))
    assert decoded([row(source, r) for r in indexes], indexes) == source
