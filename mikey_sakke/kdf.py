"""HMAC-SHA-256, and the key derivation function of TS 33.220 annex B on it (MicroPython has no `hmac` module)."""

import hashlib

_IPAD = bytes([b ^ 0x36 for b in range(256)])
_OPAD = bytes([b ^ 0x5C for b in range(256)])


def hmac_sha256(key, message):
    """HMAC-SHA-256 (RFC 2104): 32 octets; `key` of at most 64."""
    if len(key) > 64:
        raise ValueError("a key of at most 64 octets is expected")
    key = bytes(key) + bytes(64 - len(key))
    inner = hashlib.sha256(bytes([_IPAD[b] for b in key]) + message).digest()
    return hashlib.sha256(bytes([_OPAD[b] for b in key]) + inner).digest()


def kdf(key, fc, *parameters):
    """KDF(key, FC, P0, P1, ...) = HMAC-SHA-256(key, FC || P0 || L0 || ...): 32 octets; each L in 2 octets."""
    text = bytes([fc])
    for parameter in parameters:
        text += parameter + len(parameter).to_bytes(2, "big")
    return hmac_sha256(key, text)
