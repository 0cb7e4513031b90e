"""Envelopes of updates as the signer makes them, read by a board's code and by CBOR and COSE of others."""

import random
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from pycose.keys import EC2Key
from pycose.messages import Sign1Message
from vector_files import part

from cpns.errors import MalformedMessage, NotAuthentic
from device_agent.crypto import p256
from suit import numbers as n
from suit.build import build
from suit.envelope import parse, under_signature, wrapped

KEY = ec.generate_private_key(ec.SECP256R1())
NUMBERS = KEY.public_key().public_numbers()
X, Y = (value.to_bytes(32, "big") for value in (NUMBERS.x, NUMBERS.y))
IMAGE = random.Random(3).randbytes(106 * 1024 - 9)


def sign(octets: bytes) -> bytes:
    r, s = decode_dss_signature(KEY.sign(octets, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.fixture(scope="module")
def octets() -> bytes:
    return build("agent", "agent esp32 mpy6", 1_780_000_000, IMAGE, sign)


@pytest.mark.req("SEC-30")
def test_a_board_reads_it_and_verifies_it(octets: bytes) -> None:
    update = parse(octets)
    assert (update.kind, update.number, update.size) == ("agent", 1_780_000_000, len(IMAGE))
    assert (update.image, update.digest) == (IMAGE, sha256(IMAGE).digest())
    p256.run(p256.VerifyingKey(X + Y).verify(sha256(update.to_be_signed).digest(), update.signature))
    with pytest.raises(NotAuthentic):
        p256.run(p256.VerifyingKey(X + Y).verify(sha256(update.to_be_signed + b"x").digest(), update.signature))


def test_a_signature_that_no_board_reads_makes_no_file() -> None:
    with pytest.raises(MalformedMessage, match="64 octets"):
        build("agent", "agent esp32 mpy6", 1, IMAGE[:100], lambda octets: bytes(63))


@pytest.mark.req("SEC-30")
def test_cbor_and_cose_of_others_read_it(octets: bytes) -> None:
    tag = cbor2.loads(octets)
    digest, block = cbor2.loads(tag.value[2])
    assert (tag.tag, set(tag.value)) == (107, {2, 3, "#image", "#frames"})
    assert cbor2.loads(digest) == [-16, sha256(cbor2.dumps(tag.value[3])).digest()]
    sign1 = cbor2.loads(block)
    protected, unprotected, payload, signature = sign1.value
    assert (sign1.tag, dict(unprotected), payload) == (18, {}, None)
    message = Sign1Message.from_cose_obj([protected, {}, payload, signature], allow_unknown_attributes=False)
    message.payload = digest
    message.key = EC2Key(crv="P_256", x=X, y=Y)
    assert message.verify_signature()
    message.payload = digest[:-1] + bytes([digest[-1] ^ 1])
    assert not message.verify_signature()
    manifest = cbor2.loads(tag.value[3])
    common = cbor2.loads(manifest[3])
    assert (manifest[1], manifest[2], set(manifest)) == (1, 1_780_000_000, {1, 2, 3, 7, 20})
    assert common[2] == [[b"agent"], [b"frames"]]
    vendor = uuid5(NAMESPACE_DNS, "keycast")
    parameters = cbor2.loads(common[4])[3]
    assert (parameters[1], parameters[2]) == (vendor.bytes, uuid5(vendor, "agent esp32 mpy6").bytes)
    assert cbor2.loads(parameters[3]) == [-16, sha256(IMAGE).digest()] and parameters[14] == len(IMAGE)


@pytest.mark.parametrize("name", ["0", "1", "2", "3", "4", "5"])
def test_what_the_key_signs_is_what_it_signs_in_the_examples_of_the_document(name: str) -> None:
    """Their signatures verify, also of those that hold what boards do not read."""
    key = p256.VerifyingKey(bytes.fromhex(part("suit_examples", "public_key")))
    elements = cbor2.loads(bytes.fromhex(part("suit_examples", "examples", name))).value
    digest, block = cbor2.loads(elements[2])
    assert cbor2.loads(digest) == [-16, sha256(wrapped(elements[3])).digest()]
    p256.run(key.verify(sha256(under_signature(digest)).digest(), cbor2.loads(block).value[3]))


def test_what_travels_fits_into_a_frame_of_the_longest_image() -> None:
    image = bytes(n.IMAGE_MAX)
    update = parse(build("firmware", "firmware ESP32_GENERIC-OTA", n.NUMBER_MAX, image, sign))
    travels = update.without_image()
    assert len(travels) <= n.ENVELOPE_MAX and parse(travels).update_id == update.update_id
    assert parse(travels).image is None


@pytest.mark.req("SEC-30")
def test_a_file_that_is_longer_than_any_image_is_not_even_decoded() -> None:
    longest = n.IMAGE_MAX + 2 * n.ENVELOPE_MAX
    with pytest.raises(MalformedMessage, match="the envelope cannot be read"):
        parse(bytes(longest))
    with pytest.raises(MalformedMessage, match="the envelope is longer than any image"):
        parse(bytes(longest + 1))


@pytest.mark.parametrize("image", [b"", bytes(n.IMAGE_MAX + 1)])
def test_images_without_octets_or_with_too_many(image: bytes) -> None:
    with pytest.raises(MalformedMessage):
        build("agent", "agent esp32 mpy6", 1, image, sign)
