"""W24, a Group Key in an entry by RFC 3394 key wrap. Nothing uses it yet: on air there is only W16.

It carries 8 octets of integrity in each entry, which W16 gets once from COMMIT. A deployment that puts it on air
gives it subset keys of its own: one key never serves two wrappings (SEC-12).
"""

from cpns.crypto.keywrap import unwrap, wrap
from cpns.errors import NotAuthentic


def w24_wrap(subset_key: bytes, group_key: bytes) -> bytes:
    """Return `group_key`, 16 octets, wrapped under `subset_key`: 24 octets. Raises ValueError for another length."""
    if len(group_key) != 16:
        raise ValueError("W24 takes a Group Key of 16 octets")
    return wrap(subset_key, group_key)


def w24_unwrap(subset_key: bytes, wrapped: bytes) -> bytes:
    """Return the Group Key. Raises NotAuthentic if `wrapped` was not made with `subset_key`."""
    if len(wrapped) != 24:
        raise NotAuthentic("a W24 entry has 24 octets")
    return unwrap(subset_key, wrapped)
