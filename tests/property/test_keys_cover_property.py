"""Covers of arbitrary sets: partition, least size, bounds; and which boards can open them, alone or together."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_encryption.subset_index import Subset
from cpns.broadcast_encryption.wrapping import commitment, w16_unwrap, w16_wrap
from cpns.crypto.hmac import h16, hmac_sha256
from cpns.errors import NotAddressed

TM = bytes(range(32))
GK = bytes(range(100, 116))


@st.composite
def groups(draw, height_max):
    """(height, profile, members) from empty to full, sparse, dense and in runs."""
    height = draw(st.integers(2, height_max))
    size = 1 << height
    slots = draw(st.sets(st.integers(0, size - 1), max_size=60))
    if draw(st.booleans()):  # whole rooms
        width = draw(st.sampled_from([2, 4, 8]))
        slots = {slot // width * width + i for slot in slots for i in range(width)} & set(range(size))
    if draw(st.booleans()):
        slots = set(range(size)) - slots
    return height, draw(st.sampled_from([1, 2])), slots


def leaves_under(height, node):
    while node < 1 << height:
        node *= 2
        yield from leaves_under(height, node)
        node += 1
    yield node - (1 << height)


def family(height, profile):
    """All subsets with their slots, from the definition: every pair of nodes i strictly over j, and the pairs."""
    size = 1 << height
    under = {node: frozenset(leaves_under(height, node)) for node in range(1, 2 * size)}
    sets = {subset_index.ALL: under[1]}
    for i in range(1, size):
        for j in range(i + 1, 2 * size):
            if under[j] < under[i]:
                sets[Subset("S", i, j)] = under[i] - under[j]
    if profile == 2:
        for q in range(size // 4, size // 2):
            for p in range(4):
                first = 4 * q - size
                sets[Subset("P", q, p)] = frozenset([first + (p >> 1), first + 2 + (p & 1)])
    return sets


def cover_by_levels(height, profile, members):
    """The cover as the definition words it: every node of the tree from the leaves up, O(N)."""
    size = 1 << height
    full, closed = "full", "closed"
    state = {size + slot: full if slot in members else closed for slot in range(size)}
    found = []
    for v in range(size - 1, 0, -1):
        left, right = state[2 * v], state[2 * v + 1]
        if left == right and left in (full, closed):
            state[v] = left
        elif full in (left, right):
            node, other = (2 * v + 1, right) if left == full else (2 * v, left)
            state[v] = (v, node if other == closed else other[1])
        else:
            opened = [x for x in (left, right) if x != closed]
            if profile == 2 and len(opened) == 2 and 4 * v >= size and 2 * v < size:
                found.append(Subset("P", v, 2 * (1 - (left[1] & 1)) + 1 - (right[1] & 1)))
            else:
                found += [Subset("S", *x) for x in opened]
            state[v] = closed
    if state[1] == full:
        return [subset_index.ALL]
    if state[1] != closed:
        found.append(Subset("S", *state[1]))
    return sorted(found, key=lambda subset: min(subset_index.slots(height, subset)))


@pytest.mark.req("CPNS-GKM-75")
@given(groups(height_max=9))
def test_a_cover_is_a_partition_of_the_members_in_canonical_order(group):
    height, profile, members = group
    subsets = cover(height, profile, members)
    parts = [subset_index.slots(height, subset) for subset in subsets]
    assert sorted(slot for part in parts for slot in part) == sorted(members)
    assert [part[0] for part in parts] == [subset_index.smallest_slot(height, subset) for subset in subsets]
    assert [part[-1] for part in parts] == [subset_index.largest_slot(height, subset) for subset in subsets]
    assert all(a[0] < b[0] for a, b in pairwise(parts))


@given(groups(height_max=9))
def test_a_cover_is_the_one_of_the_definition(group):
    assert cover(*group) == cover_by_levels(*group)


@given(groups(height_max=10))
def test_covers_keep_their_bounds(group):
    height, profile, members = group
    size, m = 1 << height, len(members)
    r = size - m
    entries = len(cover(height, profile, members))
    if m == 0:
        assert entries == 0
    elif r <= 1:
        assert entries == 1
    else:
        assert entries <= min(2 * r - 1, m, size // (4 if profile == 2 else 2))
    assert len(cover(height, 2, members)) <= len(cover(height, 1, members))


@pytest.mark.parametrize(("height", "profile"), [(2, 1), (2, 2), (3, 1), (3, 2), (4, 2)])
def test_no_smaller_cover_exists(height, profile):
    """Every set of members in a small tree, against the least partition found by dynamic programming."""
    size = 1 << height
    masks = [sum(1 << slot for slot in slots) for slots in family(height, profile).values()]
    by_lowest = [[mask for mask in masks if mask & -mask == 1 << slot] for slot in range(size)]
    least = [0] * (1 << size)
    for group in range(1, 1 << size):
        lowest = (group & -group).bit_length() - 1
        least[group] = 1 + min(least[group ^ mask] for mask in by_lowest[lowest] if mask & ~group == 0)
    for group in range(1 << size):
        members = {slot for slot in range(size) if group >> slot & 1}
        assert len(cover(height, profile, members)) == least[group]


@pytest.mark.req("CPNS-GKM-19", "CPNS-GKM-38", "CPNS-GKM-70", "CPNS-GKM-75")
@given(groups(height_max=7))
@settings(max_examples=40)
def test_each_member_opens_one_entry_and_no_outsider_any(group):
    height, profile, members = group
    keys = TreeKeys(TM, height)
    entries = b"".join(
        subset_index.encode(height, subset) + w16_wrap(keys.subset_key(subset), GK)
        for subset in cover(height, profile, members)
    )
    for slot in range(1 << height):
        record = keys.record(profile, 1, slot)
        if slot in members:
            index, wrapped = record.own_entry(entries)
            assert w16_unwrap(record.subset_key(index), wrapped) == GK
        elif entries:
            with pytest.raises(NotAddressed):
                record.own_entry(entries)


@given(st.integers(12, 16), st.data())
@settings(max_examples=15)
def test_high_trees_with_three_octet_indexes(height, data):
    size = 1 << height
    chosen = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=12))
    keys = TreeKeys(TM, height)
    for members in (chosen, set(range(size)) - chosen):
        subsets = cover(height, 2, members)
        entries = b"".join(
            subset_index.encode(height, subset) + w16_wrap(keys.subset_key(subset), GK) for subset in subsets
        )
        for slot in chosen | {(slot + 1) % size for slot in chosen} | {slot ^ size >> 1 for slot in chosen}:
            record = keys.record(2, 1, slot)
            if slot in members:
                index, wrapped = record.own_entry(entries)
                assert w16_unwrap(record.subset_key(index), wrapped) == GK
            else:
                with pytest.raises(NotAddressed):
                    record.own_entry(entries)


@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_a_device_reads_every_index_as_the_gateway_writes_it(height):
    """All 65,536 indexes: a record agrees with the family of the definition on which exist, who is in, and the key."""
    keys = TreeKeys(TM, height)
    sets = family(height, 2)
    indexes = {int.from_bytes(subset_index.encode(height, subset), "big"): subset for subset in sets}
    # sets S, pairs, and the one of all slots
    assert len(indexes) == len(sets) == 2 * (1 << height) * (height - 1) + 2 + (1 << height) + 1
    records = [keys.record(2, 1, slot) for slot in range(1 << height)]
    for value in range(1 << 16):
        subset = indexes.get(value)
        if subset is None:
            with pytest.raises(subset_index.MalformedMessage):
                subset_index.decode(height, value.to_bytes(2, "big"))
            with pytest.raises(subset_index.MalformedMessage):
                records[value % len(records)].subset_key(value)
            continue
        assert subset_index.decode(height, value.to_bytes(2, "big")) == subset
        assert subset_index.slots(height, subset) == sorted(sets[subset])
        for slot, record in enumerate(records):
            if slot in sets[subset]:
                assert record.subset_key(value) == keys.subset_key(subset)
            else:
                with pytest.raises(NotAddressed):
                    record.subset_key(value)


def held_labels(record):
    body = record.pack()[24:]
    count = record.height * (record.height + 1) // 2
    return {body[at : at + 16] for at in range(0, 16 * count, 16)}


def everything_derivable(records):
    """All 16 octet values that the holders of `records` can compute together under the steps of the scheme.

    Labels are closed under "sd1.g"; every value is put through every other step. Deeper than the tree goes
    no label leads, so the closure ends after `height` rounds.
    """
    labels = set().union(*map(held_labels, records))
    fresh = labels
    for _ in range(records[0].height):
        halves = {hmac_sha256(label, b"sd1.g") for label in fresh}
        fresh = {half[:16] for half in halves} | {half[16:] for half in halves}
        labels |= fresh
    known = set(labels)
    for record in records:
        body = record.pack()
        known.add(body[8:24])
        if record.profile == 2:
            known |= {body[-32:-16], body[-16:]}
    for step in (b"sd1.k", b"sd1.rep", b"sd1.frame"):
        known |= {h16(value, step) for value in set(known)}
    return known


@pytest.mark.req("CPNS-GKM-75")
@given(groups(height_max=5))
@settings(max_examples=25)
def test_all_outsiders_together_cannot_open_a_cover(group):
    height, profile, members = group
    outsiders = set(range(1 << height)) - members
    if not members or not outsiders:
        return
    keys = TreeKeys(TM, height)
    known = everything_derivable([keys.record(profile, 1, slot) for slot in outsiders])
    commit = commitment(GK, 1, 1, 1, 2)
    subsets = cover(height, profile, members)
    for subset in subsets:
        assert keys.subset_key(subset) not in known
    wrapped = w16_wrap(keys.subset_key(subsets[0]), GK)
    assert all(commitment(w16_unwrap(key, wrapped), 1, 1, 1, 2) != commit for key in known)
    # the closure is not blind: with any one member's record it does open that member's entry
    member = min(members)
    assert keys.subset_key(subsets[0]) in everything_derivable([keys.record(profile, 1, member)])


@pytest.mark.req("SEC-14")
def test_all_other_slots_together_cannot_derive_a_report_key():
    keys = TreeKeys(TM, 4)
    records = [keys.record(2, 1, slot) for slot in range(16)]
    for slot in range(16):
        others = everything_derivable(records[:slot] + records[slot + 1 :])
        assert keys.report_key(slot) not in others
        assert keys.report_key(slot) in everything_derivable([records[slot]])
