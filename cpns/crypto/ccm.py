"""AES-CCM (RFC 3610), written for the board: two native AES calls, whatever the length."""

from cpns.crypto import aes
from cpns.crypto.compare import equal
from cpns.errors import NotAuthentic


def seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, tag_len: int = 8) -> bytes:
    """Ciphertext ‖ tag of `plaintext`, with `aad` authenticated.

    `key` 16 or 32 octets, `nonce` 7..13 octets and never used twice under one key, `aad` below 65,280 octets,
    `tag_len` 4, 6, .. 16. All are bytes. Raises ValueError for other lengths.
    """
    tag = _tag(key, nonce, aad, plaintext, tag_len)
    return _counter(key, nonce, plaintext, tag)


def open_(key: bytes, nonce: bytes, aad: bytes, data: bytes, tag_len: int = 8) -> bytes:
    """The plaintext of what `seal` gave. Raises NotAuthentic, and gives nothing out, if anything differs."""
    size = len(data) - tag_len
    if size < 0:
        raise NotAuthentic("shorter than its tag")
    plain = _counter(key, nonce, data[:size], data[size:])
    tag = plain[size:]
    plain = plain[:size]
    if not equal(tag, _tag(key, nonce, aad, plain, tag_len)):
        raise NotAuthentic("wrong tag")
    return plain


def _tag(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, tag_len: int) -> bytes:
    # RFC 3610 section 2.2: CBC-MAC over B_0, the length-prefixed aad and the message, each filled up with zeros
    width = 15 - len(nonce)
    if not 2 <= width <= 8 or tag_len not in (4, 6, 8, 10, 12, 14, 16):
        raise ValueError("CCM knows nonces of 7..13 and tags of 4, 6, .. 16 octets")
    if len(aad) >= 0xFF00 or len(plaintext) >> 8 * width:
        raise ValueError("too long for CCM with this nonce")
    flags = (64 if aad else 0) | (tag_len - 2) << 2 | width - 1
    blocks = bytes([flags]) + nonce + len(plaintext).to_bytes(width, "big")
    if aad:
        blocks += len(aad).to_bytes(2, "big") + aad
        blocks += bytes(-len(blocks) % 16)
    blocks += plaintext
    blocks += bytes(-len(blocks) % 16)
    return aes.cbc_encrypt(key, blocks)[-16:][:tag_len]


def _counter(key: bytes, nonce: bytes, message: bytes, tag: bytes) -> bytes:
    # section 2.3: S_0 hides the tag, S_1.. the message. The tag is XORed behind the message: message ‖ tag
    width = 15 - len(nonce)
    prefix = bytes([width - 1]) + nonce
    stream = [prefix + i.to_bytes(width, "big") for i in range(1 + (len(message) + 15) // 16)]
    stream = aes.AesEcb(key).encrypt(b"".join(stream))
    stream = stream[16 : 16 + len(message)] + stream[: len(tag)]
    size = len(stream)
    return (int.from_bytes(stream, "big") ^ int.from_bytes(message + tag, "big")).to_bytes(size, "big")
