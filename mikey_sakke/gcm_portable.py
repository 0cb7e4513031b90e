"""AES-GCM over native AES-ECB, for MicroPython."""

from mikey_sakke.errors import BadParameters

try:
    from cryptolib import aes as _aes

    def _ecb(key):
        return _aes(key, 1).encrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def _ecb(key):
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update


_R = 0xE1 << 120


def _times(x, y):
    """Return the product in GF(2^128), bit 0 leftmost (SP 800-38D section 6.3)."""
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (_R if y & 1 else 0)
    return z


def _ghash(h, text):
    y = 0
    for i in range(0, len(text), 16):
        y = _times(y ^ int.from_bytes(text[i : i + 16], "big"), h)
    return y


def _padded(text):
    return text + bytes(-len(text) % 16)


def _start(encrypt, iv):
    h = int.from_bytes(encrypt(bytes(16)), "big")
    if len(iv) == 12:
        return h, int.from_bytes(iv + b"\x00\x00\x00\x01", "big")
    return h, _ghash(h, _padded(iv) + bytes(8) + (8 * len(iv)).to_bytes(8, "big"))


def _counter(encrypt, j, text):
    out = b""
    for i in range(0, len(text), 16):
        j = j >> 32 << 32 | (j + 1) & 0xFFFFFFFF
        block = text[i : i + 16]
        out += bytes([a ^ b for a, b in zip(block, encrypt(j.to_bytes(16, "big")))])
    return out


def _tag(encrypt, h, j, aad, ciphertext):
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    s = _ghash(h, _padded(aad) + _padded(ciphertext) + lengths)
    return (s ^ int.from_bytes(encrypt(j.to_bytes(16, "big")), "big")).to_bytes(16, "big")


def seal(key, iv, aad, plaintext):
    """Ciphertext and 16-octet tag."""
    encrypt = _ecb(key)
    h, j = _start(encrypt, iv)
    ciphertext = _counter(encrypt, j, plaintext)
    return ciphertext + _tag(encrypt, h, j, aad, ciphertext)


def open_(key, iv, aad, data):
    """Return the plaintext of ciphertext and tag `data`. Raises BadParameters if the tag does not fit."""
    if len(data) < 16:
        raise BadParameters("no room for a tag")
    encrypt = _ecb(key)
    h, j = _start(encrypt, iv)
    expected = _tag(encrypt, h, j, aad, data[:-16])
    difference = 0
    for a, b in zip(expected, data[-16:]):
        difference |= a ^ b
    if difference:
        raise BadParameters("the key parameters do not decrypt")
    return _counter(encrypt, j, data[:-16])
