"""How a Group Key stands in an entry, and what binds the entry to the signed part of its broadcast object.

W16 is one AES block. That is sound only for a Group Key of exactly 16 random octets (SEC-12) and only together
with COMMIT: the block needs no nonce because its content is random, and it has no integrity of its own.
"""

from cpns.crypto.aes import ecb_decryptor, ecb_encryptor
from cpns.crypto.hmac import h16
from cpns.tuning import GROUP_KEY_LEN


def w16_wrap(subset_key: bytes, group_key: bytes) -> bytes:
    """The 16 octets of `group_key` under `subset_key`. Raises ValueError for a Group Key of another length."""
    if len(group_key) != GROUP_KEY_LEN:
        raise ValueError("a Group Key is 16 random octets")
    return ecb_encryptor(subset_key)(group_key)


def w16_unwrap(subset_key: bytes, wrapped: bytes) -> bytes:
    """The Group Key of an entry; not to be believed before COMMIT and signature were checked."""
    return ecb_decryptor(subset_key)(wrapped)


def commitment(group_key: bytes, pn_alias: int, sg_alias: int, generation: int, version: int) -> bytes:
    """COMMIT, 16 octets: binds a Group Key to the names, generation and version of the object it travels in."""
    names = pn_alias.to_bytes(4, "big") + sg_alias.to_bytes(2, "big") + generation.to_bytes(2, "big")
    return h16(group_key, b"sd1.commit", names, version.to_bytes(4, "big"))
