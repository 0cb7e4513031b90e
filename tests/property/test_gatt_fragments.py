"""The fragments of the GATT link, at both ends: the gateway's (`message_plane`) and the board's (`device_agent`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.links.gatt import Joining, fragment
from message_plane import tuning
from message_plane.links.fragments import NOTHING, Joiner, cut

VALUES_MAX = st.integers(20, 512)
DATAGRAMS = st.binary(min_size=1, max_size=1400)
HOSTILE = st.binary(max_size=600) | st.tuples(st.sampled_from([0, 1]), st.integers(0, 511)).map(
    lambda made: bytes([made[0]]) + b"x" * made[1]
)


def board_cuts(datagram, value_max):
    return [fragment(datagram, at, value_max) for at in range(0, len(datagram), value_max - 1)]


class Board:
    """The board's joining, which is told the length of a value each time."""

    def __init__(self, value_max=512):
        self._joining = Joining()
        self._value_max = value_max

    def take(self, value):
        return self._joining.take(value, self._value_max)


def gateway(value_max=512):
    return Joiner(tuning.GATT_DATAGRAM_MAX, value_max)


@given(DATAGRAMS, VALUES_MAX)
def test_both_ends_cut_alike_and_no_value_is_too_long(datagram, value_max):
    values = cut(datagram, value_max)
    assert values == board_cuts(datagram, value_max)
    assert all(2 <= len(value) <= value_max for value in values)


@pytest.mark.parametrize("end", [Board, gateway])
@given(st.lists(DATAGRAMS, max_size=4), VALUES_MAX)
def test_each_end_joins_what_was_cut(end, datagrams, value_max):
    joined = end(value_max)
    values = [NOTHING] + [value for datagram in datagrams for value in cut(datagram, value_max)]
    assert list(filter(None, map(joined.take, values))) == datagrams


@given(st.lists(HOSTILE, max_size=30))
def test_both_ends_make_the_same_of_hostile_values_and_keep_little(values):
    ours, theirs = gateway(), Board()
    for value in values:
        assert ours.take(value) == theirs.take(value)
        assert len(ours._pieces) <= tuning.GATT_DATAGRAM_MAX


@pytest.mark.parametrize("end", [Board, gateway])
@given(st.lists(HOSTILE, max_size=10), DATAGRAMS)
def test_after_anything_that_ends_the_next_datagram_is_whole(end, values, datagram):
    joined = end()
    for value in [*values, b"\x01end"]:
        joined.take(value)
    *more, last = cut(datagram, 244)
    assert [joined.take(value) for value in more] == [None] * len(more) and joined.take(last) == datagram
