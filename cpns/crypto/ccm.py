"""AES-CCM (RFC 3610), written for the board: two native AES calls for each piece of 256 octets.

It works in pieces because a heap that is nearly full has no kilobyte left in one piece. Anybody can send a message that
long, so nothing longer than a piece is allocated for it before its tag was compared.
"""

from cpns.crypto import aes
from cpns.crypto.compare import equal
from cpns.errors import NotAuthentic

_BLOCKS = 16  # of a piece


def seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, tag_len: int = 8) -> bytes:
    """Return ciphertext ‖ tag of `plaintext`, with `aad` authenticated.

    All arguments are bytes: `key` of 16 or 32 octets, `nonce` of 7..13 octets and never used twice under one key, `aad`
    below 65,280 octets. `tag_len` is 4, 6, .. 16. Raises ValueError for other lengths.
    """
    pieces, tag = _pass(key, nonce, aad, memoryview(plaintext), tag_len, False)
    pieces.append(tag)
    return b"".join(pieces)


def open_(key: bytes, nonce: bytes, aad: bytes, data: "bytes | memoryview", tag_len: int = 8) -> bytes:
    """Return the plaintext of what `seal` returned. Raises NotAuthentic, with no part of it returned, if it differs."""
    size = len(data) - tag_len
    if size < 0:
        raise NotAuthentic("shorter than its tag")
    pieces, tag = _pass(key, nonce, aad, memoryview(data)[:size], tag_len, True)
    if not equal(tag, bytes(data[size:])):
        raise NotAuthentic("wrong tag")
    return b"".join(pieces)


def _pass(key, nonce, aad, data, tag_len, opening):
    # -> (what `data`, a memoryview, becomes, in pieces; the tag of the plaintext)
    size = len(data)
    width = 15 - len(nonce)
    if not 2 <= width <= 8 or tag_len not in (4, 6, 8, 10, 12, 14, 16):
        raise ValueError("CCM knows nonces of 7..13 and tags of 4, 6, .. 16 octets")
    if len(aad) >= 0xFF00 or size >> 8 * width:
        raise ValueError("too long for CCM with this nonce")
    # RFC 3610 section 2.2: CBC-MAC over B_0, the length-prefixed aad and the message, each filled up with zeros
    flags = (64 if aad else 0) | (tag_len - 2) << 2 | width - 1
    blocks = bytes([flags]) + nonce + size.to_bytes(width, "big")
    if aad:
        blocks += len(aad).to_bytes(2, "big") + aad
        blocks += bytes(-len(blocks) % 16)
    # section 2.3: S_0 hides the tag, S_1.. the message
    prefix = bytes([width - 1]) + nonce
    encrypt = aes.ecb_encryptor(key)
    mac = aes.cbc_encryptor(key)
    count = (size + 15) // 16 + 1
    first = at = 0
    s_0 = chain = b""
    pieces = []
    while first < count:
        last = min(first + _BLOCKS, count)
        stream = encrypt(b"".join([prefix + i.to_bytes(width, "big") for i in range(first, last)]))
        first = last
        if not s_0:
            s_0, stream = stream[:tag_len], stream[16:]
        piece = data[at : at + len(stream)]
        at += len(piece)
        made = _xor(piece, stream[: len(piece)])
        if made:
            pieces.append(made)
        blocks += made if opening else bytes(piece)
        chain = mac(blocks + bytes(-len(blocks) % 16))
        blocks = b""
    return pieces, _xor(chain[-16:][:tag_len], s_0)


def _xor(a, b):
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(b), "big")
