"""Whatever a receiver hears, it makes only objects that fit their identification, and holds no more than its limits."""

import hashlib

import pytest
from advert_world import KEY, PN, adverts, forged, of_version, signed_object
from hypothesis import given
from hypothesis import strategies as st

from cpns import advert, advert_build, tuning
from cpns.errors import MalformedMessage

OBJECTS = [of_version(7), of_version(8), signed_object(bytes(18 * 3)), signed_object(bytes(18 * 20))]
ROWS_OCTETS_MAX = tuning.ADVERT_OBJECTS_MAX * (tuning.ADVERT_ROWS_MAX + tuning.ADVERT_TRIES_MAX) * advert.ROW_SIZE

INDEXES = st.integers(0, 255)
PIECES = st.one_of(
    st.tuples(st.just("genuine"), st.sampled_from(OBJECTS), st.lists(INDEXES, max_size=30)),
    st.tuples(st.just("forged"), st.sampled_from(OBJECTS), st.lists(INDEXES, max_size=4)),
    st.tuples(st.just("stranger"), st.binary(max_size=32), st.just([0])),
    st.tuples(st.just("row"), st.binary(min_size=23, max_size=23), st.just([0])),
    st.tuples(st.just("time"), st.integers(0, 20_000), st.just([0])),
)


def made(receiver, row, now):
    """Return the object that is whole with this row, or None; objects that are given up are None, too."""
    whole = receiver.take(row, now)
    if whole is None:
        return None
    steps = receiver.finish(whole, PN)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value
    except MalformedMessage:
        return None


@pytest.mark.req("SEC-10")
@given(st.lists(PIECES, max_size=20), st.randoms(use_true_random=False))
def test_only_whole_objects_come_out_of_whatever_is_heard(pieces, chance):
    heard, now = [], 0
    for kind, what, indexes in pieces:
        if kind == "genuine":
            heard += [(now, octets) for octets in adverts(what, indexes)]
        elif kind == "forged":
            heard += [(now, forged(what, index, chance.randbytes(advert.ROW_SIZE))) for index in indexes]
        elif kind == "time":
            now += what
        else:
            heard.append((now, what))
    chance.shuffle(heard)
    receiver = advert.Reassembly()
    for when, octets in sorted(heard, key=lambda each: each[0]):
        opened = (advert.ROW, octets) if len(octets) == 23 and octets[0] < 80 else advert.opened(KEY, octets)
        if opened and opened[0] == advert.ROW:
            signed = made(receiver, opened[1], when)
            assert signed is None or hashlib.sha256(signed).digest()[:2] == opened[1][1:3]
        assert len(receiver._open) <= tuning.ADVERT_OBJECTS_MAX
        assert sum(len(each.rows) for each in receiver._open) <= ROWS_OCTETS_MAX


@given(st.data())
def test_an_object_is_made_with_the_last_row_that_it_needs_and_not_before(data):
    signed = data.draw(st.sampled_from(OBJECTS))
    k = len(advert_build.rows_of(advert_build.to_air(signed, PN)))
    indexes = data.draw(st.lists(INDEXES, min_size=k, max_size=k, unique=True))
    receiver = advert.Reassembly()
    objects = [made(receiver, advert.opened(KEY, octets)[1], 0) for octets in adverts(signed, indexes)]
    assert objects == [None] * (k - 1) + [signed]


@given(st.binary(max_size=1600))
def test_octets_are_no_air_form_or_the_one_of_their_object(octets):
    try:
        signed = advert.from_air(octets, PN)
    except MalformedMessage:
        return
    assert octets.startswith(advert_build.to_air(signed, PN))


@given(st.sampled_from(OBJECTS), st.integers(0, 1500), st.integers(1, 255))
def test_a_changed_air_form_is_none_or_another_object(signed, place, change):
    air = bytearray(advert_build.to_air(signed, PN))
    air[place % len(air)] ^= change
    try:
        assert advert.from_air(air, PN) != signed
    except MalformedMessage:
        return
