"""Subset difference against its vectors: keys, records, covers, indexes, wrapping; on both Pythons."""

import gc
import json
from hashlib import sha256

from vmtest import ON_VM, raises, req

from cpns.broadcast_encryption import subset_index, wrapping, wrapping_w24
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_encryption.subset_index import Subset
from cpns.crypto.hmac import h16, hmac_sha256
from cpns.errors import MalformedMessage, NotAddressed, NotAuthentic

VM_HEAP_KIB = 192  # the PN GW's side, whole trees of it, is in the same heap

unhex = bytes.fromhex
with open("tests/vectors/broadcast_encryption.json") as file:
    VECTORS = json.load(file)
TM = unhex(VECTORS["tree_master"])
GK = unhex(VECTORS["group_key"])


def number(index):
    return int.from_bytes(index, "big")


def test_subset_keys_follow_from_the_labels_of_the_vectors():
    keys = TreeKeys(TM, 3)
    for name, label in VECTORS["labels_h3"].items():
        i, j = [int(text) for text in name.split(",")]
        label = unhex(label)
        if i == j:
            assert label == h16(TM, b"sd1.label", i.to_bytes(4, "big"))
            left = hmac_sha256(label, b"sd1.g")[:16]
            assert keys.subset_key(Subset("S", i, 2 * i)) == h16(left, b"sd1.k")
        else:
            assert keys.subset_key(Subset("S", i, j)) == h16(label, b"sd1.k")
            assert TreeKeys(TM, 3).subset_key(Subset("S", i, j)) == h16(label, b"sd1.k")


@req("CPNS-GKM-25", "CPNS-GKM-73")
def test_a_record_holds_what_the_definition_lists():
    expected = VECTORS["slot5_h3"]
    packed = TreeKeys(TM, 3).record(2, 1, 5).pack()
    body = expected["kall"] + "".join(expected["labels"])
    assert packed == unhex("0203000100000005" + body + "".join(expected["pairs"]))
    assert TreeKeys(TM, 3).record(1, 1, 5).pack() == unhex("0103000100000005" + body)


@req("CPNS-GKM-73")
def test_a_record_of_1024_slots():
    packed = TreeKeys(TM, 10).record(2, 1, 777).pack()
    assert len(packed) == 936
    expected = VECTORS["slot777_h10"]
    assert sha256(packed[8:-32]).digest() == unhex(expected["without_pairs_sha256"])
    assert sha256(packed[8:]).digest() == unhex(expected["with_pairs_sha256"])
    record = GkdkRecord.parse(packed)
    assert (record.profile, record.height, record.generation, record.slot) == (2, 10, 1, 777)
    assert record.pack() == packed


def test_record_sizes_of_the_definition():
    for height, size in (
        (3, 152),
        (5, 296),
        (7, 504),
        (8, 632),
        (9, 776),
        (10, 936),
        (11, 1112),
        (12, 1304),
        (16, 2232),
    ):
        if height < 16 or not ON_VM:  # more than a board's heap can make, though not more than it can hold
            assert len(TreeKeys(TM, height).record(2, 1, 0).pack()) == size
        record = bytes([2, height]) + unhex("000100000001") + bytes(size - 8)
        assert GkdkRecord.parse(record).pack() == record
        gc.collect()


@req("SEC-19")
def test_asking_again_gives_the_same_record():
    keys = TreeKeys(TM, 4)
    first = [keys.record(2, 7, slot).pack() for slot in range(16)]
    for slot in range(15, -1, -1):
        assert keys.record(2, 7, slot).pack() == TreeKeys(TM, 4).record(2, 7, slot).pack() == first[slot]


@req("CPNS-GKM-35", "CPNS-GKM-75")
def test_covers_keys_and_entries_of_the_vectors():
    keys = TreeKeys(TM, 3)
    for case in VECTORS["covers_h3"]:
        subsets = cover(3, case["profile"], case["members"])
        assert len(subsets) == len(case["cover"])
        for subset, (kind, node, hole, index, key, w16, w24) in zip(subsets, case["cover"]):
            assert subset == Subset(kind, node, hole)
            assert subset_index.encode(3, subset).hex() == index
            assert keys.subset_key(subset) == unhex(key)
            assert wrapping.w16_wrap(unhex(key), GK) == unhex(w16)
            assert wrapping.w16_unwrap(unhex(key), unhex(w16)) == GK
            if w24:
                assert wrapping_w24.w24_wrap(unhex(key), GK) == unhex(w24)
                assert wrapping_w24.w24_unwrap(unhex(key), unhex(w24)) == GK


@req("CPNS-GKM-19", "CPNS-GKM-38", "CPNS-GKM-70", "CPNS-GKM-75")
def test_each_member_and_nobody_else_opens_the_vectors():
    for case in VECTORS["covers_h3"]:
        entries = b"".join([unhex(index + w16) for _, _, _, index, _, w16, _ in case["cover"]])
        for slot in range(8):
            record = TreeKeys(TM, 3).record(case["profile"], 1, slot)
            if slot in case["members"]:
                index, wrapped = record.own_entry(entries)
                assert wrapping.w16_unwrap(record.subset_key(index), wrapped) == GK
            else:
                with raises(NotAddressed):
                    record.own_entry(entries)
                for _, _, _, index, _, _, _ in case["cover"]:
                    with raises(NotAddressed):
                        record.subset_key(number(unhex(index)))


def test_the_longest_derivation():
    expected = VECTORS["slot0_out_h10"]
    assert cover(10, 2, range(1, 1024)) == [Subset("S", 1, 1024)]
    assert subset_index.encode(10, Subset("S", 1, 1024)) == unhex(expected["index"])
    assert TreeKeys(TM, 10).record(2, 1, 1023).subset_key(number(unhex(expected["index"]))) == unhex(expected["key"])
    assert TreeKeys(TM, 10).subset_key(Subset("S", 1, 1024)) == unhex(expected["key"])


def test_commitment_of_the_vectors():
    v = VECTORS["commit"]
    names = [v["pn_alias"], v["sg_alias"], v["generation"], v["version"]]
    assert wrapping.commitment(GK, *names) == unhex(v["commit"])
    assert wrapping.commitment(bytes(16), *names) != unhex(v["commit"])
    for i in range(4):
        other = list(names)
        other[i] += 1
        assert wrapping.commitment(GK, *other) != unhex(v["commit"])


@req("CPNS-GKM-48")
def test_index_corners():
    for height, kind, node, hole, index in VECTORS["index_corners"]:
        subset = Subset(kind, node, hole)
        assert subset_index.encode(height, subset) == unhex(index)
        assert subset_index.decode(height, unhex(index)) == subset
        text = subset_index.to_text(1, unhex(index))
        assert text == "1." + index and subset_index.from_text(height, text) == (1, unhex(index))
    for height, index in ((2, "0001"), (11, "0001"), (12, "000001"), (16, "000001")):
        assert subset_index.encode(height, subset_index.ALL) == unhex(index)
        assert subset_index.decode(height, unhex(index)) == subset_index.ALL


HOSTILE = (
    # height, index that names no subset of that tree
    (3, "0000"),  # mode J and R: refused (SEC-01)
    (12, "000000"),
    (3, "0010"),  # j beyond the leaves
    (3, "1003"),  # i would be 0: depth impossible
    (3, "300d"),
    (3, "b001"),  # q of another depth
    (3, "b004"),
    (3, "f002"),  # no pair number 4
    (3, "a00d"),
    (11, "b400"),
    (16, "220000"),
    (16, "280000"),
    (16, "ff0000"),
    (16, "020000"),
)


@req("SEC-01")
def test_impossible_indexes_are_refused():
    for height, index in HOSTILE:
        octets = unhex(index)
        with raises(MalformedMessage):
            subset_index.decode(height, octets)
        with raises(MalformedMessage):
            subset_index.from_text(height, "1." + index)
        record = GkdkRecord.parse(bytes([2, height]) + unhex("000100000001") + bytes(8 * height * (height + 1) + 48))
        with raises(MalformedMessage):
            record.own_entry(octets + bytes(16))
        with raises(MalformedMessage):
            record.subset_key(number(octets))
    with raises(MalformedMessage):  # a pair in a tree without pairs
        TreeKeys(TM, 3).record(1, 1, 0).own_entry(unhex("b002") + bytes(16))


def test_entries_of_a_wrong_shape_are_refused():
    record = TreeKeys(TM, 3).record(2, 1, 0)
    good = unhex("200d") + bytes(16)
    assert record.own_entry(good) == (0x200D, bytes(16))
    for entries in (
        b"",
        good[:-1],
        good + b"\0",
        good + good,  # twice the same
        good + unhex("1009") + bytes(16),  # overlapping: slot 0 is in both
        good + unhex("0001") + bytes(16),
        good + unhex("0000") + bytes(16),  # an impossible one after the own
    ):
        with raises(MalformedMessage):
            record.own_entry(entries)


def test_index_text_is_exact():
    for text in (
        "",
        ".",
        "1",
        "200d",
        "1.200D",
        "1.0200d",
        "01.200d",
        "+1.200d",
        "1.20",
        "1.200d.",
        "0.200d",
        "65536.200d",
        "1._00d",
        " 1.200d",
        "1.200d ",
        "1.2 00d",
        "x.200d",
        "1.zzzz",
    ):
        with raises(MalformedMessage):
            subset_index.from_text(3, text)


def test_what_no_tree_has_is_not_encoded():
    for height, subset in (
        (3, Subset("S", 1, 1)),
        (3, Subset("S", 2, 3)),
        (3, Subset("S", 2, 6)),
        (3, Subset("S", 1, 16)),
        (3, Subset("S", 0, 1)),
        (3, Subset("P", 1, 0)),
        (3, Subset("P", 2, 4)),
        (3, Subset("P", 4, 0)),
    ):
        with raises(ValueError):
            subset_index.encode(height, subset)
    for height, profile, members in (
        (3, 2, [8]),
        (3, 2, [-1]),
        (3, 2, range(9)),
        (3, 3, [0]),
        (1, 2, [0]),
        (17, 2, [0]),
    ):
        with raises(ValueError):
            cover(height, profile, members)
    for profile, generation, slot in ((0, 1, 0), (3, 1, 0), (2, 0, 0), (2, 65536, 0), (2, 1, 8), (2, 1, -1)):
        with raises(ValueError):
            TreeKeys(TM, 3).record(profile, generation, slot)
    with raises(ValueError):
        TreeKeys(TM[:31], 3)
    assert cover(3, 2, []) == []


def test_a_record_of_a_wrong_shape_is_refused():
    packed = TreeKeys(TM, 3).record(2, 1, 5).pack()
    for octets in (
        b"",
        packed[:8],
        packed[:-1],
        packed + b"\0",
        b"\x01" + packed[1:],  # profile and length disagree
        b"\x03" + packed[1:],
        packed[:1] + b"\x04" + packed[2:],
        packed[:1] + b"\xff" + packed[2:],
        packed[:1] + b"\x00" + packed[2:],
        packed[:2] + b"\0\0" + packed[4:],  # no generation
        packed[:4] + b"\0\0\0\x08" + packed[8:],  # a slot beyond the tree
    ):
        with raises(MalformedMessage):
            GkdkRecord.parse(octets)


@req("SEC-14")
def test_both_ends_have_the_same_report_key():
    keys = TreeKeys(TM, 4)
    seen = set()
    for slot in range(16):
        key = keys.record(2, 1, slot).report_key()
        assert key == keys.report_key(slot)
        seen.add(key)
    assert len(seen) == 16


def test_both_ends_have_the_same_frame_key():
    keys = TreeKeys(TM, 4)
    assert keys.record(2, 1, 3).frame_key() == keys.record(2, 1, 9).frame_key() == keys.frame_key()


@req("SEC-12")
def test_only_a_group_key_of_16_octets_is_wrapped():
    for key in (b"", GK[:15], GK + b"\0", GK + GK):
        with raises(ValueError):
            wrapping.w16_wrap(bytes(16), key)
        with raises(ValueError):
            wrapping_w24.w24_wrap(bytes(16), key)
    with raises(NotAuthentic):
        wrapping_w24.w24_unwrap(bytes(16), bytes(32))
