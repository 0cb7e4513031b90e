"""HMAC-SHA-256 (RFC 2104) over what both Pythons have: `hashlib.sha256`.

A board's hash object can neither be copied nor fed after its digest was taken, so a key is kept as its two
padded blocks: 35 k instead of 154 k instructions for each further message.
"""

from hashlib import sha256

try:
    from hmac import digest as _one_shot
except ImportError:  # MicroPython
    _one_shot = None

_INNER = int.from_bytes(b"\x36" * 64, "big")
_OUTER = int.from_bytes(b"\x5c" * 64, "big")


class Hmac:
    """HMAC-SHA-256 under one key of any length, for many messages."""

    def __init__(self, key: bytes) -> None:
        if len(key) > 64:
            key = sha256(key).digest()
        block = int.from_bytes(key, "big") << 8 * (64 - len(key))
        self._inner = (block ^ _INNER).to_bytes(64, "big")
        self._outer = (block ^ _OUTER).to_bytes(64, "big")

    def digest(self, *parts: bytes) -> bytes:
        """The 32 octets of HMAC over the concatenation of `parts`."""
        inner = sha256(self._inner)
        for part in parts:
            inner.update(part)
        outer = sha256(self._outer)
        outer.update(inner.digest())
        return outer.digest()


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA-256 of the concatenation of `parts` under `key`, 32 octets."""
    if _one_shot:
        return _one_shot(key, b"".join(parts), "sha256")
    return Hmac(key).digest(*parts)


def h16(key: bytes, *parts: bytes) -> bytes:
    """H16 of docs/protocol.md: the first 16 octets of `hmac_sha256`."""
    return hmac_sha256(key, *parts)[:16]
