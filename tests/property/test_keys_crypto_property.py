"""The portable primitives against CPython's own and the `cryptography` library, on arbitrary input."""

import hashlib
import hmac as hmac_of_cpython

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from cpns.crypto import ccm, hkdf, hmac, keywrap

keys = st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32)


@given(st.binary(max_size=200), st.lists(st.binary(max_size=200), max_size=4))
def test_hmac(key, parts):
    expected = hmac_of_cpython.digest(key, b"".join(parts), hashlib.sha256)
    assert hmac.hmac_sha256(key, *parts) == hmac.Hmac(key).digest(*parts) == expected
    assert hmac.h16(key, *parts) == expected[:16]


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 200))
def test_hkdf(ikm, info, length):
    assert hkdf.hkdf(ikm, info, length) == HKDF(hashes.SHA256(), length, None, info).derive(ikm)


@given(
    keys,
    st.binary(min_size=7, max_size=13),
    st.binary(max_size=100),
    st.binary(max_size=800),
    st.sampled_from([4, 6, 8, 10, 12, 14, 16]),
)
def test_ccm(key, nonce, aad, plain, tag_len):
    sealed = AESCCM(key, tag_len).encrypt(nonce, plain, aad)
    assert ccm.seal(key, nonce, aad, plain, tag_len) == sealed
    assert ccm.open_(key, nonce, aad, sealed, tag_len) == plain


@given(keys, st.integers(2, 8), st.data())
def test_key_wrap(kek, blocks, data):
    key = data.draw(st.binary(min_size=8 * blocks, max_size=8 * blocks))
    wrapped = keywrap.wrap(kek, key)
    assert wrapped == aes_key_wrap(kek, key)
    assert keywrap.unwrap(kek, wrapped) == key
