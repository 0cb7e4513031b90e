"""HMAC-SHA-256 (RFC 2104) over what both Pythons have: `hashlib.sha256`.

A board's hash object can neither be copied nor fed after its digest was taken: there each HMAC starts from the key. On
Linux a key for many messages is kept as the two hashes that have taken its padded blocks; `hmac.digest` of its library
is slower for messages as short as ours.
"""

import sys
from hashlib import sha256

if sys.implementation.name != "micropython":
    _INNER = bytes(x ^ 0x36 for x in range(256))
    _OUTER = bytes(x ^ 0x5C for x in range(256))

    def _pads(key):
        if len(key) > 64:
            key = sha256(key).digest()
        block = key.ljust(64, b"\0")
        return block.translate(_INNER), block.translate(_OUTER)

    def fixed_message(message: bytes):
        """A function of a key of 16 octets: its HMAC of `message`. For the PN GW, which derives thousands of labels."""
        inner_rest = b"\x36" * 48 + message
        outer_rest = b"\x5c" * 48

        def of_key(key: bytes) -> bytes:
            inner = sha256(key.translate(_INNER) + inner_rest).digest()
            return sha256(key.translate(_OUTER) + outer_rest + inner).digest()

        return of_key

    class Hmac:
        """HMAC-SHA-256 under one key of any length, for many messages."""

        def __init__(self, key: bytes) -> None:
            inner, outer = _pads(key)
            self._inner, self._outer = sha256(inner), sha256(outer)

        def digest(self, *parts: bytes) -> bytes:
            """The 32 octets of HMAC over the concatenation of `parts`."""
            inner, outer = self._inner.copy(), self._outer.copy()  # pyright: ignore - CPython
            inner.update(b"".join(parts))
            outer.update(inner.digest())
            return outer.digest()

    def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
        """HMAC-SHA-256 of the concatenation of `parts` under `key`, 32 octets."""
        inner, outer = _pads(key)
        return sha256(outer + sha256(inner + b"".join(parts)).digest()).digest()

else:  # an XOR of whole numbers as short as the key, and hashes fed in pieces: a third of the garbage
    # by length of the key: for the inner and the outer hash what the key is XORed with, and the rest of the block
    _BLOCKS = {}
    for _size in (16, 32, 64):
        _pair = [(int.from_bytes(octet * _size, "big"), octet * (64 - _size)) for octet in (b"\x36", b"\x5c")]
        _BLOCKS[_size] = tuple(_pair)

    def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
        if len(key) > 64:
            key = sha256(key).digest()
        size = len(key)
        if size not in _BLOCKS:
            key += bytes(64 - size)
            size = 64
        number = int.from_bytes(key, "big")
        digest = b""
        for mask, rest in _BLOCKS[size]:
            block = sha256((number ^ mask).to_bytes(size, "big"))
            block.update(rest)
            if digest:
                block.update(digest)
            else:
                for part in parts:
                    block.update(part)
            digest = block.digest()
        return digest

    class Hmac:  # as above
        def __init__(self, key):
            self._key = key

        def digest(self, *parts):
            return hmac_sha256(self._key, *parts)

    def fixed_message(message):
        return lambda key: hmac_sha256(key, message)


def h16(key: bytes, *parts: bytes) -> bytes:
    """Return H16 of docs/protocol.md, the first 16 octets of `hmac_sha256`."""
    return hmac_sha256(key, *parts)[:16]
