"""Comparing secrets and tags (SEC, section 4: in constant time as far as the platform can)."""

try:
    from hmac import compare_digest as _compare
except ImportError:  # MicroPython has no such module
    _compare = None


def equal(a: bytes, b: bytes) -> bool:
    """True if the octets `a` and `b` are the same; looks at every octet wherever the first difference is.

    The lengths are not secret: different lengths give False at once.
    """
    if _compare:
        return _compare(a, b)
    if len(a) != len(b):
        return False
    difference = 0
    for x, y in zip(a, b):
        difference |= x ^ y
    return difference == 0
