"""Comparing secrets and tags (SEC, section 4: in constant time as far as the platform can)."""

import sys

if sys.implementation.name == "micropython":

    def equal(a: bytes, b: bytes) -> bool:
        """Return True if `a` and `b` are the same octets. It looks at every octet, wherever the first difference is.

        The lengths are not secret: for different lengths it returns False at once.
        """
        if len(a) != len(b):
            return False
        difference = 0
        for x, y in zip(a, b):
            difference |= x ^ y
        return difference == 0

else:
    from hmac import compare_digest

    def equal(a: bytes, b: bytes) -> bool:  # as above
        return compare_digest(a, b)
