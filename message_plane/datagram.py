"""Checks of the structure of a CoAP message (RFC 7252, 3), done before the library decodes it."""

from __future__ import annotations

from cpns.errors import MalformedMessage
from message_plane import tuning

_MARKER = 0xFF


def check_datagram(data: bytes, most: int = tuning.DATAGRAM_MAX) -> None:
    """Raise MalformedMessage unless `data` has a CoAP header, a token of 0..8 octets and options that end inside it.

    `most`: the octets of the longest datagram.
    """
    if not 4 <= len(data) <= most:
        raise MalformedMessage("CoAP message of a wrong length")
    token_length = data[0] & 0x0F
    if data[0] >> 6 != 1 or token_length > 8 or len(data) < 4 + token_length:
        raise MalformedMessage("no CoAP header of version 1")
    if data[1] == 0 and len(data) != 4:
        raise MalformedMessage("an empty message has four octets")
    check_options(data, 4 + token_length)


def check_options(data: bytes, offset: int) -> None:
    """Raise MalformedMessage unless there are at most OPTIONS_MAX options from `offset` on that end inside `data`."""
    end = len(data)
    for _ in range(tuning.OPTIONS_MAX + 1):
        if offset == end:
            return
        head = data[offset]
        if head == _MARKER:
            if offset + 1 == end:
                raise MalformedMessage("payload marker without payload")
            return
        offset += 1
        _, offset = _extended(data, offset, head >> 4)
        length, offset = _extended(data, offset, head & 0x0F)
        offset += length
        if offset > end:
            raise MalformedMessage("option longer than its message")
    raise MalformedMessage(f"more than {tuning.OPTIONS_MAX} options")


def _extended(data: bytes, offset: int, nibble: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, offset
    size = nibble - 12
    if nibble == 15 or offset + size > len(data):
        raise MalformedMessage("option head is broken")
    value = int.from_bytes(data[offset : offset + size], "big")
    return value + (13 if size == 1 else 269), offset + size
