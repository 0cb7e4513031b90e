"""HMAC, HKDF, AES, CCM and key wrap against the vectors of their standards, on both Pythons."""

from hashlib import sha256

from vmtest import raises

from cpns.crypto import aes, ccm, compare, hkdf, hmac, keywrap
from cpns.errors import NotAuthentic


def unhex(text):
    return bytes.fromhex(text.replace(" ", ""))


def octets(first, last):
    return bytes(range(first, last + 1))


def test_hmac_rfc_4231():
    data_7 = (
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm."
    )
    for key, data, expected in (
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (octets(1, 25), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (b"\xaa" * 131, data_7, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    ):
        expected = unhex(expected)
        assert hmac.hmac_sha256(key, data)[: len(expected)] == expected
        kept = hmac.Hmac(key)
        assert kept.digest(data[:5], b"", data[5:])[: len(expected)] == expected
        assert kept.digest(data)[: len(expected)] == expected, "a second message under the kept key"
        assert hmac.h16(key, data[:3], data[3:]) == expected[:16]


def test_hmac_of_a_fixed_message_is_the_same_hmac():
    of_key = hmac.fixed_message(b"sd1.g")
    for key in (bytes(16), octets(240, 255)):
        assert of_key(key) == hmac.hmac_sha256(key, b"sd1.g")


def test_hmac_of_keys_at_the_block_boundary():
    # a key of 64 octets is used as it is, one of 65 is hashed first; leading zeros count
    assert hmac.hmac_sha256(b"k" * 64, b"m") == hmac.Hmac(b"k" * 64).digest(b"m")
    assert hmac.hmac_sha256(b"k" * 65, b"m") != hmac.hmac_sha256(b"k" * 64, b"m")
    assert hmac.hmac_sha256(b"\0k", b"m") != hmac.hmac_sha256(b"k", b"m")
    assert hmac.hmac_sha256(b"k\0", b"m") == hmac.hmac_sha256(b"k", b"m"), "RFC 2104 fills keys up with zeros"


def test_hkdf_rfc_5869():
    for ikm, salt, info, prk, okm in (
        (
            b"\x0b" * 22,
            octets(0, 12),
            octets(0xF0, 0xF9),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            octets(0, 0x4F),
            octets(0x60, 0xAF),
            octets(0xB0, 0xFF),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ):
        okm = unhex(okm)
        assert hkdf.extract(salt, ikm) == unhex(prk)
        assert hkdf.expand(unhex(prk), info, len(okm)) == okm
        if not salt:
            assert hkdf.hkdf(ikm, info, len(okm)) == okm


def test_hkdf_knows_its_limits():
    assert hkdf.hkdf(b"k", b"", 0) == b""
    assert len(hkdf.hkdf(b"k", b"", 8160)) == 8160
    with raises(ValueError):
        hkdf.hkdf(b"k", b"", 8161)


def test_aes_fips_197():
    plain = unhex("00112233445566778899aabbccddeeff")
    for key, cipher in (
        (octets(0, 15), "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (octets(0, 31), "8ea2b7ca516745bfeafc49904b496089"),
    ):
        encrypt, decrypt = aes.ecb_encryptor(key), aes.ecb_decryptor(key)
        for _ in "12":  # a call knows nothing of the one before
            assert encrypt(plain) == unhex(cipher)
            assert decrypt(unhex(cipher)) == plain
        assert encrypt(plain + plain) == unhex(cipher) * 2
    for begin in (aes.ecb_encryptor, aes.ecb_decryptor, aes.cbc_encryptor):
        with raises(ValueError):
            begin(bytes(15))


def test_aes_cbc_sp_800_38a():
    key = unhex("2b7e151628aed2a6abf7158809cf4f3c")
    # F.2.1 starts from the vector 00..0f; from zero, block 1 is the ECB block of F.1.1, and chaining follows
    first = unhex("3ad77bb40d7a3660a89ecaf32466ef97")
    plain = unhex("6bc1bee22e409f96e93d7e117393172a")
    encrypt = aes.cbc_encryptor(key)
    assert encrypt(plain) == first
    chained = (int.from_bytes(first, "big") ^ int.from_bytes(plain, "big")).to_bytes(16, "big")
    assert encrypt(plain) == aes.ecb_encryptor(key)(chained)
    assert aes.cbc_encryptor(key)(plain * 2) == first + aes.ecb_encryptor(key)(chained)


CCM = (
    # key, nonce, associated data, plaintext, tag length, ciphertext ‖ tag
    # NIST SP 800-38C, examples 1..3
    (
        octets(0x40, 0x4F),
        octets(0x10, 0x16),
        octets(0, 7),
        octets(0x20, 0x23),
        4,
        "7162015b 4dac255d",
    ),
    (
        octets(0x40, 0x4F),
        octets(0x10, 0x17),
        octets(0, 15),
        octets(0x20, 0x2F),
        6,
        "d2a1f0e051ea5f62081a7792073d593d 1fc64fbfaccd",
    ),
    (
        octets(0x40, 0x4F),
        octets(0x10, 0x1B),
        octets(0, 19),
        octets(0x20, 0x37),
        8,
        "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5 484392fbc1b09951",
    ),
    # RFC 3610, packet vectors 1, 2, 3, 4, 7, 13
    (
        octets(0xC0, 0xCF),
        unhex("00000003020100a0a1a2a3a4a5"),
        octets(0, 7),
        octets(8, 0x1E),
        8,
        "588c979a61c663d2f066d0c2c0f989806d5f6b61dac384 17e8d12cfdf926e0",
    ),
    (
        octets(0xC0, 0xCF),
        unhex("00000004030201a0a1a2a3a4a5"),
        octets(0, 7),
        octets(8, 0x1F),
        8,
        "72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3b a091d56e10400916",
    ),
    (
        octets(0xC0, 0xCF),
        unhex("00000005040302a0a1a2a3a4a5"),
        octets(0, 7),
        octets(8, 0x20),
        8,
        "51b1e5f44a197d1da46b0f8e2d282ae871e838bb64da859657 4adaa76fbd9fb0c5",
    ),
    (
        octets(0xC0, 0xCF),
        unhex("00000006050403a0a1a2a3a4a5"),
        octets(0, 11),
        octets(0x0C, 0x1E),
        8,
        "a28c6865939a9a79faaa5c4c2a9d4a91cdac8c 96c861b9c9e61ef1",
    ),
    (
        octets(0xC0, 0xCF),
        unhex("00000009080706a0a1a2a3a4a5"),
        octets(0, 7),
        octets(8, 0x1E),
        10,
        "0135d1b2c95f41d5d1d4fec185d166b8094e999dfed96c 048c56602c97acbb7490",
    ),
    (
        unhex("d7828d13b2b0bdc325a76236df93cc6b"),
        unhex("00412b4ea9cdbe3c9696766cfa"),
        unhex("0be1a88bace018b1"),
        unhex("08e8cf97d820ea258460e96ad9cf5289054d895ceac47c"),
        8,
        "4cb97f86a2a4689a877947ab8091ef5386a6ffbdd080f8 e78cf7cb0cddd7b3",
    ),
)


def test_ccm_rfc_3610_and_sp_800_38c():
    for key, nonce, aad, plain, tag_len, sealed in CCM:
        assert ccm.seal(key, nonce, aad, plain, tag_len) == unhex(sealed)
        assert ccm.open_(key, nonce, aad, unhex(sealed), tag_len) == plain


def test_ccm_refuses_every_changed_octet():
    key, nonce, aad, _, tag_len, sealed = CCM[3]
    sealed = unhex(sealed)
    for i in range(len(sealed)):
        changed = sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :]
        with raises(NotAuthentic):
            ccm.open_(key, nonce, aad, changed, tag_len)
    for wrong in (sealed[:-1], sealed + b"\0", b"", sealed[:7]):
        with raises(NotAuthentic):
            ccm.open_(key, nonce, aad, wrong, tag_len)
    with raises(NotAuthentic):
        ccm.open_(key, nonce, aad + b"\0", sealed, tag_len)
    with raises(NotAuthentic):
        ccm.open_(key, nonce[:-1] + b"\0", aad, sealed, tag_len)


def test_ccm_without_message_or_associated_data():
    key, nonce = bytes(16), bytes(13)
    for aad, plain in ((b"", b""), (b"a", b""), (b"", b"p"), (b"a" * 14, b"p" * 16), (b"a" * 15, b"p" * 15)):
        sealed = ccm.seal(key, nonce, aad, plain)
        assert len(sealed) == len(plain) + 8
        assert ccm.open_(key, nonce, aad, sealed) == plain


def test_ccm_works_in_pieces_and_the_octets_do_not_show_it():
    """The digest is that of what `cryptography` makes of the same."""
    key, nonce, data = bytes(range(16)), bytes(range(13)), bytes(range(256)) * 5
    digest = sha256()
    for size in (15, 16, 17, 239, 240, 241, 255, 256, 257, 495, 496, 497, 1024, 1280):
        sealed = ccm.seal(key, nonce, b"head", data[:size])
        digest.update(sealed)
        assert ccm.open_(key, nonce, b"head", memoryview(sealed)) == data[:size]
    assert digest.digest() == unhex("844512b8ff52e91ebe398b4f0c6b2a1c979fbf38914fe7a1cdd700cd01603e5f")


def test_ccm_knows_its_limits():
    for nonce, tag_len in ((bytes(6), 8), (bytes(14), 8), (bytes(13), 5), (bytes(13), 2), (bytes(13), 18)):
        with raises(ValueError):
            ccm.seal(bytes(16), nonce, b"", b"x", tag_len)


def test_key_wrap_rfc_3394():
    for kek, key, wrapped in (
        (
            octets(0, 15),
            "00112233445566778899aabbccddeeff",
            "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5",
        ),
        (
            octets(0, 31),
            "00112233445566778899aabbccddeeff",
            "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7",
        ),
        (
            octets(0, 31),
            "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
        ),
    ):
        assert keywrap.wrap(kek, unhex(key)) == unhex(wrapped)
        assert keywrap.unwrap(kek, unhex(wrapped)) == unhex(key)


def test_key_wrap_refuses_what_was_not_wrapped():
    wrapped = keywrap.wrap(bytes(16), octets(0, 15))
    for wrong in (b"", wrapped[:-8], wrapped[:-1], wrapped + b"\0", wrapped[:-1] + bytes([wrapped[-1] ^ 1])):
        with raises(NotAuthentic):
            keywrap.unwrap(bytes(16), wrong)
    with raises(NotAuthentic):
        keywrap.unwrap(octets(0, 15), wrapped)
    for key in (bytes(8), bytes(17), b""):
        with raises(ValueError):
            keywrap.wrap(bytes(16), key)


def test_compare():
    assert compare.equal(b"", b"") and compare.equal(octets(0, 9), octets(0, 9))
    assert not compare.equal(b"a", b"") and not compare.equal(b"ab", b"ac") and not compare.equal(b"bb", b"ab")
