"""Signed broadcasts as adverts: their forms, and what is lost on the way, on both Pythons."""

import os

from advert_world import KEY, PN, adverts, decoded, hear, signed_object, take
from vmtest import raises, req

from cpns import advert, advert_build, beacon, cborlite, report, tuning
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from cpns.crypto import keywrap
from cpns.errors import MalformedMessage


@req("SEC-10")
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
        assert advert.opened(KEY, octets) is None
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


def test_the_adverts_that_objects_take():
    """Objects without activation, with it, and with all numbers at their longest; many entries; a delete."""
    plain = (1, 1, 0x10002, 0)
    for entries, names, length, rows in (
        (1, plain, 127, 6),
        (1, (1, 1, 0x10002, 1800000000), 131, 6),
        (1, (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), 135, 7),
        (2, plain, 146, 7),
        (6, plain, 218, 11),
        (57, plain, 1138, 59),
        (60, plain, 1192, 62),
        (70, plain, 1372, 72),
    ):
        signed = signed_object(bytes(entries * 18), names)
        assert len(signed) == length
        air = advert_build.to_air(signed, PN)
        assert len(air) == length - (17 if length < 331 else 18)
        assert len(advert_build.rows_of(air)) == rows
    payload = cborlite.encode([22, PN, 7, 0x10002])
    delete = FRAME_HEAD + cborlite.encode(payload) + SIGNATURE_HEAD + bytes(64)
    air = advert_build.to_air(delete, PN)
    assert advert.from_air(air, PN) == delete
    assert len(advert_build.rows_of(air)) == 4
