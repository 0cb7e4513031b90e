"""For all octets a receiver of broadcasts and records raises nothing but the errors of the protocol."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cpns import cborlite
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD, Received, ReceivedDelete, parse
from cpns.broadcast_object_build import build
from cpns.errors import CpnsError

KEYS = TreeKeys(bytes(range(32)), 5)
RECORD = KEYS.record(2, 1, 9)
GENUINE = build(
    pn_id="pn",
    sg_id="sg",
    pn_alias=1,
    sg_alias=1,
    generation=1,
    version=2,
    activation=0,
    reason=0,
    group_key=bytes(16),
    height=5,
    subsets=cover(5, 2, {1, 5, 9, 10, 11}),
    key_of=KEYS.subset_key,
)[0].finish(bytes(64))


def receive(datagram):
    """The Group Key as far as a board comes without the signature; raises CpnsError."""
    received = parse(datagram)
    if isinstance(received, ReceivedDelete):
        return received.check(1, 1, 2, "pn", "sg")
    assert isinstance(received, Received)
    return received.check(1, 1, RECORD, 1) and received.open("pn", "sg")


def test_the_genuine_object_is_received():
    assert receive(GENUINE)[0] == bytes(16)


@pytest.mark.req("SEC-09")
@given(st.binary(max_size=300))
def test_no_octets_come_as_far_as_the_signature(octets):
    with pytest.raises(CpnsError):
        receive(octets)


@given(st.binary(max_size=200), st.binary(min_size=64, max_size=64))
def test_any_payload(payload, signature):
    with contextlib.suppress(CpnsError):
        receive(FRAME_HEAD + payload + SIGNATURE_HEAD + signature)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([3, 22]), st.lists(values, max_size=11))
@example(3, [1, 1, 1, 2, 0, 0, bytes(16), bytes(18)])
@example(22, [1, 1, 2])
def test_any_items(code, items):
    payload = cborlite.encode(cborlite.encode([code, *items]))
    with contextlib.suppress(CpnsError):
        receive(FRAME_HEAD + payload + SIGNATURE_HEAD + bytes(64))


@given(st.integers(0, len(GENUINE) - 1), st.integers(1, 255))
def test_any_changed_octet_before_the_signature_changes_nothing_silently(at, change):
    changed = GENUINE[:at] + bytes([GENUINE[at] ^ change]) + GENUINE[at + 1 :]
    try:
        key, signed = receive(changed)
    except CpnsError:
        return
    assert key == bytes(16)
    # what still opens has another Sig_structure, or only its signature was changed
    assert signed != receive(GENUINE)[1] or at >= len(GENUINE) - 64


@given(st.binary(max_size=80))
def test_any_entries(entries):
    with contextlib.suppress(CpnsError):
        index, wrapped = RECORD.own_entry(entries)
        assert len(wrapped) == 16 and len(RECORD.subset_key(index)) == 16


@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=8))
def test_entries_that_overlap_at_the_own_slot_are_refused(indexes):
    entries = b"".join(index + bytes(16) for index in indexes)
    try:
        subsets = [subset_index.decode(5, index) for index in indexes]
    except CpnsError:
        subsets = None
    try:
        index, _ = RECORD.own_entry(entries)
    except CpnsError:
        assert subsets is None or sum(9 in subset_index.slots(5, subset) for subset in subsets) != 1
    else:
        assert subsets is not None
        (own,) = [subset for subset in subsets if 9 in subset_index.slots(5, subset)]
        assert subset_index.decode(5, index.to_bytes(2, "big")) == own


@given(
    st.binary(max_size=200) | st.builds(lambda head, n: head + bytes(n), st.binary(max_size=8), st.integers(0, 2300))
)
def test_any_record(octets):
    with contextlib.suppress(CpnsError):
        record = GkdkRecord.parse(octets)
        assert record.pack() == octets
        assert len(record.report_key()) == 16


@given(st.text(max_size=16) | st.from_regex(r"\A[0-9]{1,5}\.[0-9a-f]{4}\Z"))
def test_any_index_text(text):
    with contextlib.suppress(CpnsError):
        generation, index = subset_index.from_text(5, text)
        assert subset_index.to_text(generation, index) == text
