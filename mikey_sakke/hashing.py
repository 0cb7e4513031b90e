"""SHA-256 as both RFCs use it."""

import hashlib

from mikey_sakke.integers import bits, from_octets


def sha256(*parts):
    """SHA-256 over the concatenation of `parts`: 32 octets."""
    return hashlib.sha256(b"".join(parts)).digest()


def hash_to_integer_range(octets, limit):
    """HashToIntegerRange(s, n) of RFC 6508 section 5.1: an integer in 0..limit-1 from `octets`."""
    a = sha256(octets)
    h = bytes(32)
    v = b""
    for _ in range((bits(int(limit) - 1) + 255) // 256):
        h = sha256(h)
        v += sha256(h, a)
    return from_octets(v) % limit
