"""Deterministic CBOR: there is one encoding for each value, and no other is accepted."""

from vmtest import raises

from cpns import cborlite
from cpns.errors import MalformedMessage

# Appendix A of RFC 8949, as far as the subset goes
RFC_8949 = (
    ("00", 0),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("80", []),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("c11a514b67b0", cborlite.Tag(1, 1363896240)),
)

MALFORMED = (
    "",  # nothing
    "0000",  # octets after the end
    "1817",  # 23 in the long form
    "190018",
    "1a0000ffff",
    "1b00000000ffffffff",
    "5801ff",  # a length in the long form
    "18",  # truncated head
    "1900",
    "42ff",  # truncated contents
    "820a",
    "a1",
    "a101",
    "c1",
    "5bffffffffffffffff00",  # lengths that no memory holds
    "9bffffffffffffffff00",
    "bbffffffffffffffff00",
    "1c",  # reserved
    "1f",
    "5f4100ff",  # indefinite
    "9f00ff",
    "bf0000ff",
    "ff",
    "f7",  # undefined
    "e0",
    "f820",
    "f97e00",  # floats
    "fb3ff199999999999a",
    "a201000100",  # key repeated
    "a202000100",  # keys out of order
    "a2410000",
    "a18000",  # keys that are no integer or string
    "a1a000",
    "a1f500",
    "a1c10000",
    "61ff",  # text that is not UTF-8
    "62c328",
)


def test_each_value_has_the_encoding_of_the_rfc():
    for octets, value in RFC_8949:
        octets = bytes.fromhex(octets)
        assert cborlite.encode(value) == octets
        back = cborlite.decode(octets)
        assert back == value and type(back) is type(value)


def test_a_view_decodes_like_bytes():
    octets = cborlite.encode([b"abc", "abc", {1: b"x"}])
    assert cborlite.decode(memoryview(octets)) == [b"abc", "abc", {1: b"x"}]


def test_map_keys_are_sorted_by_their_octets():
    octets = cborlite.encode({"b": 0, -1: 1, 24: 2, b"": 3, 2: 4, "": 5})
    assert octets == bytes.fromhex("a60204181802200140036005616200")
    assert sorted(cborlite.decode(octets).values()) == [0, 1, 2, 3, 4, 5]


def test_other_octets_are_malformed():
    for octets in MALFORMED:
        with raises(MalformedMessage):
            cborlite.decode(bytes.fromhex(octets))


def test_nesting_is_bounded():
    assert cborlite.decode(b"\x81" * cborlite.DEPTH_MAX + b"\x00") is not None
    for head in (b"\x81", b"\xc1", b"\xa1\x00"):
        with raises(MalformedMessage):
            cborlite.decode(head * (cborlite.DEPTH_MAX + 1) + b"\x00")


def test_size_is_bounded():
    octets = cborlite.encode(bytes(100))
    assert cborlite.decode(octets, 102) == bytes(100)
    with raises(MalformedMessage):
        cborlite.decode(octets, 101)


def test_a_sequence_is_read_item_by_item():
    octets = b"\xf5" + cborlite.encode(b"abc") + cborlite.encode(-7)
    first, offset = cborlite.decode_prefix(octets)
    second, offset = cborlite.decode_prefix(octets, offset)
    third, offset = cborlite.decode_prefix(octets, offset)
    assert (first, second, third, offset) == (True, b"abc", -7, len(octets))
    with raises(MalformedMessage):
        cborlite.decode_prefix(octets, offset)


def test_a_credential_has_one_form():
    """The CCS of docs/protocol.md section 2 comes out in the order written there."""
    ccs = {8: {1: {-2: b"x" * 32, 1: 2, -1: 1, 2: b"kid-of-8"}}, 2: "lamp"}
    octets = cborlite.encode(ccs)
    head = b"\xa2\x02\x64lamp\x08\xa1\x01\xa4\x01\x02\x02\x48kid-of-8\x20\x01\x21\x58\x20"
    assert octets == head + b"x" * 32


def test_what_the_subset_cannot_express_is_a_programming_error():
    for value in (1.5, 1 << 64, -(1 << 64) - 1, {None: 0}, {True: 0}):
        with raises((TypeError, ValueError)):
            cborlite.encode(value)
