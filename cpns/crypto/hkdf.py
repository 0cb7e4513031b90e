"""HKDF with SHA-256 (RFC 5869)."""

from cpns.crypto.hmac import Hmac, hmac_sha256


def extract(salt: bytes, ikm: bytes) -> bytes:
    """Return the 32 octet pseudo-random key of `ikm`. An empty `salt` means 32 zero octets (section 2.2)."""
    return hmac_sha256(salt, ikm)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """Return `length` octets (0..8160) for the purpose `info` (section 2.3). Raises ValueError beyond that."""
    if length > 255 * 32:
        raise ValueError("HKDF gives at most 8160 octets")
    mac = Hmac(prk)
    block = out = b""
    while len(out) < length:
        block = mac.digest(block, info, bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def hkdf(ikm: bytes, info: bytes, length: int) -> bytes:
    """Extract with an empty salt, then expand: the only HKDF of the protocol (docs/protocol.md)."""
    return expand(extract(b"", ikm), info, length)
