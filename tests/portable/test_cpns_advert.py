"""Signed broadcasts as adverts: the vectors, what is lost, forged or repeated, on both Pythons."""

import os

from vector_files import unhex
from vmtest import raises, req

from cpns import advert, advert_build, beacon, erasure_code, report, tuning
from cpns.crypto import keywrap
from cpns.errors import MalformedMessage

KEY = bytes(range(16))
PN = 0xA1B2C3D4


def read(name):
    """Yield the cases or decodes of tests/vectors/ble_frames.jsonl one at a time: all do not fit a board's heap."""
    import json

    with open("tests/vectors/ble_frames.jsonl") as file:
        for line in file:
            case = json.loads(line)
            if name in case:
                yield case


def signed_object(entries=bytes(18), version=7):
    """Return octets of the shape of a broadcast object, with a signature of no meaning."""
    from cpns import cborlite
    from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD

    items = [3, PN, 7, 1, version, 0, 2, bytes(16), entries]
    return FRAME_HEAD + cborlite.encode(cborlite.encode(items)) + SIGNATURE_HEAD + bytes(range(64))


def decoded(source, indexes):
    """Return what the decoder makes of these rows of an object, of which it needs no more than k."""
    rows = bytearray()
    for i in indexes[: len(source)]:
        rows += source[i] if i < len(source) else erasure_code.repair(source, i)
    return run(erasure_code.decode(rows, bytes(indexes[: len(source)])))


def run(steps):
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def adverts(signed, indexes, key=KEY):
    rows = advert_build.rows_of(advert_build.to_air(signed, PN))
    return [advert_build.row_advert(key, advert.identification(signed), rows, index) for index in indexes]


def take(receiver, octets, now=0):
    """Give one advert to the receiver; return the assembly that is whole with it, or None."""
    heard = advert.opened(KEY, octets)
    return receiver.take(heard[1], now) if heard and heard[0] == advert.ROW else None


def hear(receiver, octets, now=0):
    """Give adverts to the receiver and return the object, or None."""
    for each in octets:
        whole = take(receiver, each, now)
        if whole:
            found = run(receiver.finish(whole, PN))
            if found:
                return found


@req("SEC-10")
def test_the_vectors_of_frames():
    seen = 0
    for case in read("object"):
        signed, air, pn = unhex(case["object"]), unhex(case["air"]), case["pn_alias"]
        assert advert_build.to_air(signed, pn) == air, case["name"]
        rows = advert_build.rows_of(air)
        assert len(rows) == case["k"]
        assert advert.from_air(b"".join(rows), pn) == signed
        name, key = unhex(case["id"]), unhex(case["frame_key"])
        assert advert.identification(signed) == name
        for frame in case["frames"]:
            octets = advert_build.row_advert(key, name, rows, frame["index"])
            assert octets == unhex(frame["advert"]), (case["name"], frame["index"])
            assert keywrap.decipher(key, octets) == unhex(frame["plain"])
            seen += 1
    assert seen == 211


def test_the_vectors_of_receptions():
    airs, seen = {}, 0
    for case in read("object"):
        airs[case["name"]] = unhex(case["air"])
    for case in read("received"):
        source = advert_build.rows_of(airs[case["case"]])
        assert decoded(source, case["received"]) == b"".join(source)
        seen += 1
    assert seen == 28


def test_any_rows_that_are_enough_give_the_object_back():
    signed = signed_object(bytes(18 * 7))
    k = len(advert_build.rows_of(advert_build.to_air(signed, PN)))
    for first in (0, 3, k, 100, 256 - k):
        receiver = advert.Reassembly()
        assert hear(receiver, adverts(signed, range(first, first + k - 1))) is None
        assert hear(receiver, adverts(signed, [(first + k - 1) % 256])) == signed
        assert hear(receiver, adverts(signed, range(k))) is None, "a finished object begins anew"


def test_every_number_of_rows():
    for k in (1, 2, 12, 13, tuning.ADVERT_ROWS_MAX):
        source = [os.urandom(19) for _ in range(k)]
        assert decoded(source, [255 - i for i in range(k)]) == b"".join(source)


@req("SEC-10")
def test_adverts_of_others_and_changed_ones_are_no_rows():
    signed = signed_object()
    receiver = advert.Reassembly()
    for octets in adverts(signed, range(6), bytes(16)):
        assert take(receiver, octets) is None
    good = adverts(signed, [0])[0]
    for place in range(24):
        changed = bytearray(good)
        changed[place] ^= 1
        take(receiver, bytes(changed))
    assert len(receiver._open) <= 2, "changed adverts began objects"  # each does so with a probability of 2^-9.7


@req("SEC-10", "SEC-13")
def test_a_beacon_is_one_advert():
    datagram = beacon.build(KEY, "lamps", PN, 7, 2, 5)
    octets = advert_build.beacon_advert(KEY, datagram)
    assert len(octets) == advert.SIZE
    assert advert.opened(KEY, octets) == (advert.BEACON, datagram)
    assert keywrap.decipher(KEY, octets) == b"\0\xf0" + datagram[1:] + bytes(4)
    assert advert.opened(bytes(16), octets) is None
    for wrong in (b"", datagram[:-1], datagram + b"\0", b"\xd2" + datagram[1:]):
        with raises(ValueError):
            advert_build.beacon_advert(KEY, wrong)


@req("SEC-10", "SEC-14")
def test_a_report_is_one_advert():
    octets = report.build(7, 2, 0x00010005, 1023, "1", bytes(range(8)))
    assert octets == b"\x00\x07\x00\x02\x00\x01\x00\x05\x00\x00\x03\xff\x01" + bytes(range(8))
    shown = advert.report_advert(KEY, octets)
    assert len(shown) == advert.SIZE
    assert advert.opened(KEY, shown) == (advert.REPORT, octets)
    assert keywrap.decipher(KEY, shown) == b"\0\xf1" + octets + b"\0"
    assert tuple(report.parse(octets)) == (7, 2, 0x00010005, 1023, "1", bytes(range(8)))
    for wrong in (b"", octets[:-1], octets + b"\0"):
        with raises(MalformedMessage):
            report.parse(wrong)
        with raises(ValueError):
            advert.report_advert(KEY, wrong)
    for result in (0, 3, 255):
        with raises(MalformedMessage):
            report.parse(octets[:12] + bytes((result,)) + octets[13:])


@req("SEC-10")
def test_adverts_of_no_known_kind_or_with_other_octets_than_zeros_behind_are_nothing():
    for second in range(256):
        found = advert.opened(KEY, keywrap.encipher(KEY, bytes((0, second)) + bytes(22)))
        assert (found is not None) == (second < 80 or second in (0xF0, 0xF1)), second
    for plain in (
        b"\0\xf0" + bytes(21) + b"\1",
        b"\0\xf0" + bytes(18) + b"\1" + bytes(3),
        b"\0\xf1" + bytes(21) + b"\1",
    ):
        assert advert.opened(KEY, keywrap.encipher(KEY, plain)) is None
    assert advert.opened(KEY, keywrap.encipher(KEY, b"\1" + bytes(23))) is None
    for length in range(32):
        assert length == 24 or advert.opened(KEY, bytes(length)) is None


@req("SEC-10")
def test_a_forged_row_costs_a_small_object_tries_and_no_key():
    signed = signed_object()
    head = bytes((0, 5)) + advert.identification(signed)
    forged = keywrap.encipher(KEY, head + bytes((200,)) + bytes(19))
    receiver = advert.Reassembly()
    heard = [forged] + adverts(signed, range(5))
    assert hear(receiver, heard) is None
    assert hear(receiver, adverts(signed, [6])) == signed


@req("SEC-10")
def test_forged_rows_without_end_end_the_object():
    signed = signed_object()
    head = bytes((0, 5)) + advert.identification(signed)
    receiver = advert.Reassembly()
    with raises(MalformedMessage):
        hear(receiver, [keywrap.encipher(KEY, head + bytes((index,)) + os.urandom(19)) for index in range(100, 140)])
    assert receiver.dropped == 1 and not receiver._open
    large = signed_object(bytes(18 * 20))
    head = bytes((0, len(advert_build.rows_of(advert_build.to_air(large, PN))) - 1)) + advert.identification(large)
    with raises(MalformedMessage):
        hear(receiver, [keywrap.encipher(KEY, head + bytes((99,)) + bytes(19))] + adverts(large, range(head[1])))


def test_a_hundred_objects_that_begin_leave_room_for_the_one_that_goes_on():
    signed = signed_object()
    receiver = advert.Reassembly()
    assert hear(receiver, adverts(signed, range(3))) is None
    for version in range(100):
        hear(receiver, adverts(signed_object(version=1000 + version), [0]))
        assert len(receiver._open) <= tuning.ADVERT_OBJECTS_MAX
    assert receiver.dropped >= 96
    assert hear(receiver, adverts(signed, range(3, 6))) == signed


def test_an_object_that_stands_too_long_is_dropped():
    signed = signed_object()
    receiver = advert.Reassembly()
    hear(receiver, adverts(signed, range(5)), 0)
    assert hear(receiver, adverts(signed, [5]), tuning.ADVERT_OBJECT_S * 1000 + 1) is None
    assert receiver.dropped == 1


def test_air_forms_that_lie():
    air = advert_build.to_air(signed_object(), PN)
    for wrong in (
        b"",
        b"\x85" + air[1:],  # of no known kind
        air[:-1],  # ends early
        air + bytes(19),  # a whole row of padding
        air + b"\0\1",  # padding that is not zero
        b"\x89" + b"\x80" * 120,  # arrays
        b"\x89\x07\x01\x07\x00\x02\x50" + bytes(16) + b"\x5a\x7f\xff\xff\xff" + bytes(80),  # a length that lies
        b"\x89\x18\x07" + air[2:],  # a number in a longer form
    ):
        with raises(MalformedMessage):
            advert.from_air(wrong, PN)
    for wrong in (b"", bytes(100), signed_object()[:-1], b"\xd2" + bytes(200)):
        with raises(MalformedMessage):
            advert_build.to_air(wrong, PN)
    with raises(MalformedMessage):
        advert_build.to_air(signed_object(), PN + 1)


def test_an_object_that_is_too_long_for_adverts():
    with raises(ValueError):
        advert_build.rows_of(bytes(19 * tuning.ADVERT_ROWS_MAX + 1))
