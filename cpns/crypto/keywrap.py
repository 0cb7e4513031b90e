"""AES key wrap (RFC 3394)."""

from cpns.crypto.aes import ecb_decryptor, ecb_encryptor
from cpns.crypto.compare import equal
from cpns.errors import NotAuthentic

_INITIAL = b"\xa6" * 8


def wrap(kek: bytes, key: bytes) -> bytes:
    """Return `key` (a multiple of 8 octets, at least 16) wrapped under `kek` (16 or 32 octets), 8 octets longer.

    Raises ValueError for other lengths.
    """
    if len(key) < 16 or len(key) % 8:
        raise ValueError("key wrap takes a multiple of 8 octets, at least 16")
    encrypt = ecb_encryptor(kek)
    a = _INITIAL
    r = [key[i : i + 8] for i in range(0, len(key), 8)]
    n = len(r)
    for t in range(6 * n):
        block = encrypt(a + r[t % n])
        a = _xor(block[:8], t + 1)
        r[t % n] = block[8:]
    return a + b"".join(r)


def unwrap(kek: bytes, data: bytes) -> bytes:
    """Return the key in `data`. Raises NotAuthentic if it was not wrapped under `kek`."""
    if len(data) < 24 or len(data) % 8:
        raise NotAuthentic("not a wrapped key")
    decrypt = ecb_decryptor(kek)
    a = data[:8]
    r = [data[i : i + 8] for i in range(8, len(data), 8)]
    n = len(r)
    for t in range(6 * n - 1, -1, -1):
        block = decrypt(_xor(a, t + 1) + r[t % n])
        a = block[:8]
        r[t % n] = block[8:]
    if not equal(a, _INITIAL):
        raise NotAuthentic("the wrapped key does not fit")
    return b"".join(r)


def _xor(a: bytes, t: int) -> bytes:
    return (int.from_bytes(a, "big") ^ t).to_bytes(8, "big")
