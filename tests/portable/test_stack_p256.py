"""P-256 on the board: public vectors and the corners of the arithmetic."""

import gc
from hashlib import sha256

from vmtest import ON_VM, raises

from cpns.errors import CpnsError, MalformedMessage, NotAuthentic
from device_agent.cose import Credential, verify_sign1
from device_agent.crypto import p256
from device_agent.crypto.p256_base_point import SUMS

N = p256.N
G = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
# RFC 6979, A.2.5
KEY = bytes.fromhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
SAMPLE = bytes.fromhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)
TEST = bytes.fromhex(
    "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
    "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"
)


def octets(n):
    return n.to_bytes(32, "big")


def verify(key, digest, signature):
    p256.run(p256.VerifyingKey(key).verify(digest, signature))


def ecdh(private, x):
    return p256.run(p256.ecdh(private, p256.run(p256.table(x))))


def test_public_keys_of_small_and_large_scalars():
    for k, x in (
        (1, "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
        (2, "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978"),
        (3, "5ecbe4d1a6330a44c8f7ef951d4bf165e6c6b721efada985fb41661bc6e7fd6c"),
        (4, "e2534a3532d08fbba02dde659ee62bd0031fe2db785596ef509302446b030852"),
    ):
        point = p256.run(p256.public_key(octets(k)))
        mirrored = p256.run(p256.public_key(octets(N - k)))
        assert point[:32].hex() == mirrored[:32].hex() == x
        assert int.from_bytes(point[32:], "big") + int.from_bytes(mirrored[32:], "big") == p256.P
    assert p256.run(p256.public_key(octets(1))) == G


def test_ecdh_of_rfc_5903():
    i = bytes.fromhex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433")
    r = bytes.fromhex("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53")
    g_i = p256.run(p256.public_key(i))
    g_r = p256.run(p256.public_key(r))
    assert g_i.hex() == (
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3"
    )
    secret = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"
    assert ecdh(i, g_r[:32]).hex() == ecdh(r, g_i[:32]).hex() == secret


def test_ecdh_of_the_nist_cavp():
    private = bytes.fromhex("7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534")
    x = bytes.fromhex("700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287")
    assert ecdh(private, x).hex() == "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b"


def test_signatures_of_rfc_6979():
    key = p256.VerifyingKey(KEY)
    for message, signature in ((b"sample", SAMPLE), (b"test", TEST)):
        p256.run(key.verify(sha256(message).digest(), signature))
    with raises(NotAuthentic):
        p256.run(key.verify(sha256(b"test").digest(), SAMPLE))


def test_a_changed_signature_digest_or_key_is_refused():
    digest = sha256(b"sample").digest()
    for at in (0, 31, 32, 63):
        changed = bytearray(SAMPLE)
        changed[at] ^= 1
        with raises(NotAuthentic):
            verify(KEY, digest, bytes(changed))
    with raises(NotAuthentic):
        verify(KEY, sha256(b"simple").digest(), SAMPLE)
    with raises(NotAuthentic):
        verify(G, digest, SAMPLE)


def test_signatures_out_of_range_are_refused():
    r, s = SAMPLE[:32], SAMPLE[32:]
    digest = sha256(b"sample").digest()
    zero, order, most = bytes(32), octets(N), b"\xff" * 32
    for bad in (
        zero + s,
        r + zero,
        order + s,
        r + order,
        most + s,
        r + most,
        zero + zero,
        b"",
        SAMPLE[:63],
        SAMPLE + s,
    ):
        with raises(NotAuthentic):
            verify(KEY, digest, bad)


def test_an_x_coordinate_beyond_the_order_is_reduced():
    # Project Wycheproof, "k*G has a large x-coordinate"
    key = bytes.fromhex(
        "0ad99500288d466940031d72a9f5445a4d43784640855bf0a69874d2de5fe103"
        "c5011e6ef2c42dcd50d5d3d29f99ae6eba2c80c9244f4c5422f0979ff0c3ba5e"
    )
    r = bytes.fromhex("000000000000000000000000000000004319055358e8617b0c46353d039cdaab")
    s = octets(N - 3)
    verify(key, sha256(b"123400").digest(), r + s)


def sign_with_key_one(k, digest):
    """-> the signature of `digest` under the private key 1, whose public point is G itself."""
    r = int.from_bytes(p256.run(p256.public_key(octets(k)))[:32], "big") % N
    s = p256._invert(k, N) * (int.from_bytes(digest, "big") + r) % N
    return octets(r), octets(s)


def test_equal_points_are_doubled_and_opposite_points_cancel():
    # digest = r makes both scalars equal, digest = -r opposite; with the key G the sums meet in every column
    r = sign_with_key_one(7, bytes(32))[0]
    verify(G, r, b"".join(sign_with_key_one(7, r)))
    with raises(NotAuthentic):
        verify(G, octets(N - int.from_bytes(r, "big")), r + octets(5))


def test_a_digest_of_zero_is_verified():
    verify(G, bytes(32), b"".join(sign_with_key_one(11, bytes(32))))


def test_what_is_no_point_is_refused():
    x, y = KEY[:32], KEY[32:]
    with raises(MalformedMessage):
        p256.run(p256.table(x, octets(int.from_bytes(y, "big") ^ 1)))
    for bad in (octets(p256.P), octets(p256.P + 5), b"\xff" * 32, x[:31], x + b"\0", b"", octets(1)):
        with raises(MalformedMessage):
            p256.run(p256.table(bad))
    with raises(MalformedMessage):
        p256.run(p256.table(x, octets(p256.P)))
    with raises(MalformedMessage):
        p256.VerifyingKey(KEY[:63])
    with raises(MalformedMessage):
        verify(KEY[:63] + b"\0", sha256(b"sample").digest(), SAMPLE)


def test_scalars_without_a_point_are_refused():
    for k in (0, N):
        with raises(CpnsError):
            p256.run(p256.public_key(octets(k)))


def test_private_keys_are_in_range():
    for number, key in ((0, 1), (N - 2, N - 1), (N - 1, 1)):
        assert p256.private_key(lambda size, number=number: number.to_bytes(size, "big")) == octets(key)


def yields(steps):
    """-> how often the generator `steps` gives way."""
    n = 0
    for _ in steps:
        n += 1
    return n


def test_long_operations_give_way_often():
    assert yields(p256.table(KEY[:32])) > 80
    table = p256.run(p256.table(KEY[:32]))
    assert [len(entry) for entry in table] == [64] * 16
    assert yields(p256.ecdh(octets(5), table)) > 50


def test_the_sums_of_the_base_point_are_what_they_would_be_computed_to():
    assert b"".join(p256.run(p256.table(G[:32], G[32:]))) == SUMS


def test_garbage_waits_until_the_heap_is_full_while_computing_and_not_longer():
    if not ON_VM:
        return  # CPython counts references
    before = gc.threshold()
    gc.threshold(4096)
    one, other = (p256.unhurried(p256.ecdh(octets(5), SUMS)) for _ in "12")
    next(one)
    for _ in range(100):
        next(other)  # waits: there is room for one
    assert gc.threshold() == -1
    assert p256.run(one) == p256.run(other)
    assert gc.threshold() == 4096
    with raises(NotAuthentic):
        p256.run(p256.unhurried(p256.ecdh(octets(N), SUMS)))
    assert gc.threshold() == 4096
    gc.threshold(before)


def test_a_prepared_key_verifies_in_fewer_steps():
    key = p256.VerifyingKey(KEY)
    digest = sha256(b"sample").digest()
    p256.run(key.prepare())
    prepared = yields(key.verify(digest, SAMPLE))
    assert prepared < 60 < yields(p256.VerifyingKey(KEY).verify(digest, SAMPLE))


def test_a_cose_sign1_is_verified():
    # the key of RFC 6979 signed Sig_structure ["Signature1", h'a10126', h'11', h'22'] once, with k = 7
    key = p256.VerifyingKey(G)
    to_be_signed = bytes.fromhex("846a5369676e61747572653143a1012641114122")
    signature = b"".join(sign_with_key_one(7, sha256(to_be_signed).digest()))
    p256.run(verify_sign1(key, b"\x11", b"\x22", signature))
    for aad, payload in ((b"\x12", b"\x22"), (b"\x11", b"\x23"), (b"", b"\x11\x22")):
        with raises(NotAuthentic):
            p256.run(verify_sign1(key, aad, payload, signature))


def test_credentials_are_one_octet_string_and_no_other():
    credential = Credential.of("kitchen lamp", G[:32])
    kid = sha256(G[:32]).digest()[:8]
    assert credential.ccs.hex() == (
        "a2026c6b69746368656e206c616d7008a101a4010202" + "48" + kid.hex() + "2001215820" + G[:32].hex()
    )
    parsed = Credential.parse(credential.ccs)
    assert (parsed.entity_id, parsed.kid, parsed.x) == ("kitchen lamp", kid, G[:32])
    for bad in (
        b"",
        b"\xa0",
        b"\xa2\x02\x60\x08\xa0",
        credential.ccs + b"\0",
        credential.ccs[:-1] + b"\0",  # the kid no longer fits
        b"\xa1" + credential.ccs[1:],
        b"\x83\x01\x02\x03",
        b"\x18\x64",
        b"\xa2\x02\x01\x08\xa1\x01\xa1\x21\x41a",
    ):
        with raises(MalformedMessage):
            Credential.parse(bad)
    for entity_id in ("", "x" * 49, "ö" * 25):
        with raises(MalformedMessage):
            Credential.of(entity_id, G[:32])
