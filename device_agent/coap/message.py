"""CoAP messages (RFC 7252 section 3): octets <-> Message. Options are lists of (number, octets)."""

CON, NON, ACK, RST = 0, 1, 2, 3


class Message:
    """`type` CON..RST, `code` u8 (class << 5 | detail), `mid` u16, `token` 0..8 octets, `options`, `payload`."""

    def __init__(self, type, code, mid, token=b"", options=(), payload=b""):
        raise NotImplementedError

    def encode(self):
        """-> datagram."""
        raise NotImplementedError


def decode(data):
    """-> Message with options in ascending order. Raises MalformedMessage."""
    raise NotImplementedError


def encode_body(options, payload):
    """-> options and payload with marker, as in a message after the token; also OSCORE's plaintext after the code."""
    raise NotImplementedError


def decode_body(data, offset):
    """-> (options, payload). Raises MalformedMessage."""
    raise NotImplementedError


def option(options, number):
    """-> value of the first option with that number, or None."""
    raise NotImplementedError


def path(options):
    """-> Uri-Path as a str, segments joined by '/'; undecodable text gives ''."""
    raise NotImplementedError
