"""AES key wrap (RFC 3394), and the permutation W under it, which enciphers octets without making them longer."""

from cpns.crypto.aes import apply, ecb_decryptor, ecb_encryptor
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
    return _permuted(ecb_encryptor(kek), octets, True)


def decipher(kek: bytes, octets: bytes) -> bytes:
    """Return the octets of which `encipher` under `kek` made these. Raises ValueError as it does."""
    return _permuted(ecb_decryptor(kek), octets, False)


def _permuted(function, octets, forward):
    # In one block and in views of one copy: a board opens dozens of adverts in a second, and copies are its garbage
    n = len(octets) // 8 - 1
    if n < 2 or len(octets) % 8:
        raise ValueError("key wrap takes a multiple of 8 octets, at least 24 with its first block")
    out = bytearray(octets)
    view = memoryview(out)
    registers = [view[8 * i + 8 : 8 * i + 16] for i in range(n)]
    block = bytearray(16)
    block[:8] = view[:8]
    second = memoryview(block)[8:]
    for t in range(6 * n):
        if not forward:
            t = 6 * n - 1 - t
            _count(block, t + 1)
        register = registers[t % n]
        second[:] = register
        apply(function, block)
        register[:] = second
        if forward:
            _count(block, t + 1)
    out[:8] = block[:8]
    return bytes(out)


def _count(block, step):
    # The number of the step, in 64 bits of which 16 are ever used, is added to the first half of the block
    block[6] ^= step >> 8
    block[7] ^= step & 255
