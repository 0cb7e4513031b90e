"""Frames of an update that only members of a Service Group can read."""

from vmtest import raises, req

from cpns.crypto import aes
from cpns.crypto.hkdf import hkdf
from cpns.errors import MalformedMessage
from suit import frames, sealing
from suit import numbers as n

ID = b"12345678"
GROUP_KEY = bytes(range(16))
PLAIN = bytes(range(256)) * 4


@req("SEC-30")
def test_a_frame_is_encrypted_as_the_protocol_says():
    info = b"keycast/update/2\x05lamps\x00\x01\x00\x05" + ID
    cipher = aes.ecb_encryptor(hkdf(GROUP_KEY, info, 16))
    sealed = sealing.Seal(GROUP_KEY, "lamps", 0x00010005, ID).turn(0x0203, PLAIN)
    for counter in (0, 1, 63):
        block = bytearray(b"\x02\x03" + bytes((counter,)) + bytes(13))
        aes.apply(cipher, block)
        at = 16 * counter
        assert bytes(block[i] ^ PLAIN[at + i] for i in range(16)) == sealed[at : at + 16]


def test_it_opens_under_the_same_key_index_and_update_only():
    seal = sealing.Seal(GROUP_KEY, "lamps", 5, ID)
    sealed = seal.turn(7, PLAIN)
    assert seal.turn(7, memoryview(sealed)) == PLAIN
    others = [(GROUP_KEY, "lamps", 6, ID), (GROUP_KEY, "doors", 5, ID), (GROUP_KEY, "lamps", 5, b"x" * 8)]
    others.append((bytes(16), "lamps", 5, ID))
    for other in others:
        assert sealing.Seal(*other).turn(7, sealed) != PLAIN
    assert seal.turn(8, sealed) != PLAIN


def test_a_sealed_frame_on_the_air():
    body = sealing.head(0x0102, 0x00010005) + PLAIN
    frame = frames.parse(frames.build(n.SEALED, ID, 3, body))
    assert (frame.kind, sealing.key_named(frame.body)) == (n.SEALED, (0x0102, 0x00010005))
    assert bytes(frame.body[sealing.HEAD :]) == PLAIN
    with raises(MalformedMessage):
        frames.parse(frames.build(n.SEALED, ID, 3, PLAIN))
