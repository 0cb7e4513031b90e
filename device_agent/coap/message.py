"""Codec of CoAP messages (RFC 7252 section 3). Options are lists of (number, octets)."""

from cpns.errors import MalformedMessage

CON, NON, ACK, RST = 0, 1, 2, 3
URI_PATH, CONTENT_FORMAT = 11, 12
OPTIONS_MAX = 16  # a board's messages have five; more would only cost heap


class Message:
    """A message: `type` CON..RST, `code` u8 (class << 5 | detail), `mid` u16, `token` 0..8 octets, options, payload."""

    def __init__(self, type, code, mid, token=b"", options=(), payload=b""):
        self.type = type
        self.code = code
        self.mid = mid
        self.token = token
        self.options = options
        self.payload = payload

    def encode(self):
        """Return the datagram."""
        head = bytes((0x40 | self.type << 4 | len(self.token), self.code, self.mid >> 8, self.mid & 255))
        return head + self.token + encode_body(self.options, self.payload)


def decode(data):
    """Return the Message in a datagram, with its options in ascending order. Raises MalformedMessage."""
    if len(data) < 4 or data[0] >> 6 != 1:
        raise MalformedMessage("CoAP: not version 1")
    offset = 4 + (data[0] & 15)
    code = data[1]
    if offset > 12 or offset > len(data) or (code == 0 and len(data) > 4):
        raise MalformedMessage("CoAP: token length, or an empty message that is not empty")
    options, payload = decode_body(data, offset)
    return Message(data[0] >> 4 & 3, code, data[2] << 8 | data[3], bytes(data[4:offset]), options, payload)


def encode_body(options, payload):
    """Return options, marker and payload as octets: a message after its token, or OSCORE's plaintext after the code."""
    out = bytearray()
    last = 0
    # the order of equal options counts, and MicroPython's sorted() may change it
    for number in sorted({number for number, _ in options}):
        for found, value in options:
            if found == number:
                delta, more = _nibble(number - last)
                length, longer = _nibble(len(value))
                out.append(delta << 4 | length)
                out.extend(more + longer + value)
                last = number
    if payload:
        out.append(0xFF)
        out.extend(payload)
    return bytes(out)


def decode_body(data, offset):
    """Return (options, payload) of `data` from `offset` on. Raises MalformedMessage."""
    options = []
    number = 0
    while offset < len(data):
        head = data[offset]
        offset += 1
        if head == 0xFF:
            if offset == len(data):
                raise MalformedMessage("CoAP: payload marker without payload")
            return options, bytes(data[offset:])
        delta, offset = _extend(head >> 4, data, offset)
        length, offset = _extend(head & 15, data, offset)
        number += delta
        if length > len(data) - offset or number > 0xFFFF or len(options) == OPTIONS_MAX:
            raise MalformedMessage("CoAP: option")
        options.append((number, bytes(data[offset : offset + length])))
        offset += length
    return options, b""


def option(options, number):
    """Return the value of the first option with that number, or None."""
    for found, value in options:
        if found == number:
            return value
    return None


def path(options):
    """Return the Uri-Path as a str, its segments joined by '/', or '' if it is no UTF-8."""
    try:
        return str(b"/".join([value for number, value in options if number == URI_PATH]), "utf-8")
    except UnicodeError:
        return ""


def _nibble(n):
    if n < 13:
        return n, b""
    if n < 269:
        return 13, bytes((n - 13,))
    return 14, (n - 269).to_bytes(2, "big")


def _extend(nibble, data, offset):
    size = nibble - 12
    if size <= 0:
        return nibble, offset
    if size > 2 or size > len(data) - offset:
        raise MalformedMessage("CoAP: option")
    return int.from_bytes(data[offset : offset + size], "big") + (13 if size == 1 else 269), offset + size
