"""Slots: one PNE one slot, lowest free, blocks kept together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.core.gkdk.slots import BLOCK, choose_slot


@given(st.integers(2, 8), st.data())
def test_without_a_group_it_is_the_lowest_free_slot(height, data):
    taken = data.draw(st.frozensets(st.integers(0, 2**height - 1)))
    choice = choose_slot(height, taken, {})
    free = sorted(set(range(2**height)) - taken)
    assert choice == ((free[0], None) if free else None)


@pytest.mark.req("SEC-19")
@given(st.integers(3, 7), st.lists(st.sampled_from([None, "light", "door", "heat"]), max_size=150))
def test_every_slot_is_used_once_and_no_request_fails_before_all_are(height, wishes):
    taken: set[int] = set()
    blocks: dict[int, str] = {}
    for number, group in enumerate(wishes):
        choice = choose_slot(height, taken, blocks, group)
        if number >= 2**height:
            assert choice is None
            continue
        assert choice is not None
        slot, block = choice
        assert 0 <= slot < 2**height and slot not in taken
        if block is not None:
            assert block not in blocks and slot == block * BLOCK
            blocks[block] = group
        taken.add(slot)


@given(st.lists(st.sampled_from(["light", "door"]), max_size=16))
def test_a_group_stays_in_its_own_blocks_while_there_is_room(wishes):
    taken: set[int] = set()
    blocks: dict[int, str] = {}
    for group in wishes:
        slot, block = choose_slot(8, taken, blocks, group)
        if block is not None:
            blocks[block] = group
        assert blocks[slot // BLOCK] == group
        taken.add(slot)
