"""AES key wrap (RFC 3394), and the permutation W under it, which enciphers octets without making them longer."""

from cpns.crypto.aes import ecb_decryptor, ecb_encryptor
from cpns.crypto.compare import equal
from cpns.errors import NotAuthentic

_INITIAL = b"\xa6" * 8


def wrap(kek: bytes, key: bytes) -> bytes:
    """Return `key` (a multiple of 8 octets, at least 16) wrapped under `kek` (16 or 32 octets), 8 octets longer.

    Raises ValueError for other lengths.
    """
    return encipher(kek, _INITIAL + key)


def unwrap(kek: bytes, data: bytes) -> bytes:
    """Return the key in `data`. Raises NotAuthentic if it was not wrapped under `kek`."""
    try:
        octets = decipher(kek, data)
    except ValueError:
        raise NotAuthentic("not a wrapped key") from None
    if not equal(octets[:8], _INITIAL):
        raise NotAuthentic("the wrapped key does not fit")
    return octets[8:]


def encipher(kek: bytes, octets: bytes) -> bytes:
    """Return W(octets) under `kek` (16 or 32 octets), as long as `octets`: a multiple of 8, at least 24.

    W (NIST SP 800-38F, 4.2.1) is a permutation of which every octet out depends on every octet in: the caller checks
    after `decipher` the octets that it knows. Raises ValueError for other lengths.
    """
    _check_length(octets)
    encrypt = ecb_encryptor(kek)
    a = octets[:8]
    r = [octets[i : i + 8] for i in range(8, len(octets), 8)]
    n = len(r)
    for t in range(6 * n):
        block = encrypt(a + r[t % n])
        a = _xor(block[:8], t + 1)
        r[t % n] = block[8:]
    return a + b"".join(r)


def decipher(kek: bytes, octets: bytes) -> bytes:
    """Return the octets of which `encipher` under `kek` made these. Raises ValueError as it does."""
    _check_length(octets)
    decrypt = ecb_decryptor(kek)
    a = octets[:8]
    r = [octets[i : i + 8] for i in range(8, len(octets), 8)]
    n = len(r)
    for t in range(6 * n - 1, -1, -1):
        block = decrypt(_xor(a, t + 1) + r[t % n])
        a = block[:8]
        r[t % n] = block[8:]
    return a + b"".join(r)


def _check_length(octets: bytes) -> None:
    if len(octets) < 24 or len(octets) % 8:
        raise ValueError("key wrap takes a multiple of 8 octets, at least 24 with its first block")


def _xor(a: bytes, t: int) -> bytes:
    return (int.from_bytes(a, "big") ^ t).to_bytes(8, "big")
