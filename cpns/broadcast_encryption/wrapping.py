"""How a Group Key is encrypted in an entry, and what binds the entry to the signed part of its broadcast object.

W16 is one AES block. That is sound only for a Group Key of exactly 16 random octets (SEC-12) and only together
with COMMIT: the block needs no nonce because its content is random, and it has no integrity of its own.
"""

from cpns.crypto.aes import ecb_decryptor, ecb_encryptor
from cpns.crypto.hmac import h16
from cpns.tuning import GROUP_KEY_LEN


def w16_wrap(subset_key: bytes, group_key: bytes) -> bytes:
    """Return `group_key`, 16 octets, encrypted under `subset_key`. Raises ValueError for another length."""
    if len(group_key) != GROUP_KEY_LEN:
        raise ValueError("a Group Key is 16 random octets")
    return ecb_encryptor(subset_key)(group_key)


def w16_unwrap(subset_key: bytes, wrapped: bytes) -> bytes:
    """Return the Group Key of an entry. It is not to be used before COMMIT and signature were checked."""
    return ecb_decryptor(subset_key)(wrapped)


def commitment(group_key: bytes, pn_alias: int, sg_alias: int, generation: int, version: int) -> bytes:
    """Return COMMIT, 16 octets, which binds a Group Key to the names, generation and version of its object."""
    names = pn_alias.to_bytes(4, "big") + sg_alias.to_bytes(2, "big") + generation.to_bytes(2, "big")
    return h16(group_key, b"sd1.commit", names, version.to_bytes(4, "big"))
