"""Deterministic CBOR (RFC 8949, 4.2.1): the subset that keycast's octets use, and nothing else.

Values: integers of up to 64 bit and sign, bytes, text, lists, maps (keys: integers or strings), `Tag`,
True, False, None. Each value has exactly one encoding, so what decodes encodes back to the same octets.
No floats, no indefinite lengths, no other simple values.
"""

from collections import namedtuple

from cpns import tuning
from cpns.errors import MalformedMessage

Tag = namedtuple("Tag", ("number", "value"))

DEPTH_MAX = 8  # nested arrays, maps and tags; bounds the stack a stranger's octets can use


def encode(value):
    """Return the octets of `value`. Raises TypeError or ValueError if the subset cannot express it."""
    out = bytearray()
    _append(out, value)
    return bytes(out)


def append_head(out, major, n):
    """Append the head of an item to the bytearray `out`: major type in the upper 3 bits, length or value `n`."""
    if n < 24:
        out.append(major | n)
        return
    for i in range(4):
        if n < 1 << (8 << i):
            out.append(major | 24 + i)
            out.extend(n.to_bytes(1 << i, "big"))
            return
    raise ValueError("CBOR: integer of more than 64 bit")


def decode(data, limit=tuning.MESSAGE_MAX):
    """Return the one value that `data` (bytes or memoryview, at most `limit` octets) is.

    Raises MalformedMessage on anything else: truncation, trailing octets, a longer form than needed,
    map keys out of order or repeated, text that is not UTF-8, too deep nesting.
    """
    if len(data) > limit:
        raise MalformedMessage(f"CBOR: longer than {limit} octets")
    value, end = decode_prefix(data)
    if end != len(data):
        raise MalformedMessage("CBOR: octets after the end")
    return value


def decode_prefix(data, offset=0, depth=DEPTH_MAX):
    """Return (value, offset after it) of the item that starts at `offset`, for sequences. Raises MalformedMessage."""
    if not 0 <= offset < len(data):
        raise MalformedMessage("CBOR: truncated")
    major = data[offset] >> 5
    n = data[offset] & 31
    offset += 1
    if major == 7:
        if 20 <= n <= 22:
            return (False, True, None)[n - 20], offset
        raise MalformedMessage("CBOR: float or simple value")
    if n > 23:
        if n > 27:
            raise MalformedMessage("CBOR: no definite length")
        size = 1 << n - 24
        if size > len(data) - offset:
            raise MalformedMessage("CBOR: truncated")
        n = int.from_bytes(data[offset : offset + size], "big")
        offset += size
        if n < (24 if size == 1 else 1 << 4 * size):
            raise MalformedMessage("CBOR: longer form than needed")
    if major == 0:
        return n, offset
    if major == 1:
        return -1 - n, offset
    if major != 6 and n > len(data) - offset:  # each element of an array or map takes an octet at least
        raise MalformedMessage("CBOR: truncated")
    if major < 4:
        value = bytes(data[offset : offset + n])
        return value if major == 2 else _text(value), offset + n
    if depth == 0:
        raise MalformedMessage("CBOR: nested too deeply")
    depth -= 1
    if major == 6:
        value, offset = decode_prefix(data, offset, depth)
        return Tag(n, value), offset
    if major == 4:
        value = []
        for _ in range(n):
            item, offset = decode_prefix(data, offset, depth)
            value.append(item)
        return value, offset
    value = {}
    last = b""
    for _ in range(n):
        start = offset
        key, offset = decode_prefix(data, offset, depth)
        octets = bytes(data[start:offset])
        if octets[0] >> 5 > 3:
            raise MalformedMessage("CBOR: map key is no integer or string")
        if octets <= last:
            raise MalformedMessage("CBOR: map keys repeated or out of order")
        last = octets
        value[key], offset = decode_prefix(data, offset, depth)
    return value, offset


def _text(octets):
    try:
        return str(octets, "utf-8")
    except UnicodeError:
        raise MalformedMessage("CBOR: text is not UTF-8") from None


def _append(out, value):
    if value is None or value is True or value is False:
        out.append(0xF6 if value is None else 0xF5 if value else 0xF4)
    elif isinstance(value, int):
        append_head(out, 0, value) if value >= 0 else append_head(out, 0x20, -1 - value)
    elif isinstance(value, str):
        octets = value.encode()
        append_head(out, 0x60, len(octets))
        out.extend(octets)
    elif isinstance(value, Tag):
        append_head(out, 0xC0, value.number)
        _append(out, value.value)
    elif isinstance(value, (list, tuple)):
        append_head(out, 0x80, len(value))
        for item in value:
            _append(out, item)
    elif isinstance(value, dict):
        append_head(out, 0xA0, len(value))
        for octets, key in sorted((encode(key), key) for key in value):
            if octets[0] >> 5 > 3:
                raise TypeError("CBOR: map key is no integer or string")
            out.extend(octets)
            _append(out, value[key])
    elif isinstance(value, (bytes, bytearray, memoryview)):
        append_head(out, 0x40, len(value))
        out.extend(value)
    else:
        raise TypeError(f"CBOR: cannot express a {type(value).__name__}")
