"""Block-wise transfer of bodies (RFC 7959) inside OSCORE. Only boards that have a resource with blocks load this.

A block has 16 << exponent octets, 1,024 at most. The blocks of an answer are as small as those of its request. A board
has room for one transfer of a resource at a time: another transfer ends it.
"""

from cpns.errors import MalformedMessage, TooMany
from device_agent.coap import message as coap

EXPONENT_MAX = 6
_BLOCK2, _BLOCK1, _REQUEST_TAG = 23, 27, 292
_CHANGED, _CONTINUE, _TOO_LARGE, _UNSUPPORTED_FORMAT = 0x44, 0x5F, 0x8D, 0x8F


class Blocks:
    """A resource whose bodies travel in blocks. Its `answer` goes into the table of resources in `requests.py`.

    `handle(body)` returns a flow whose value is the body of the answer. A body that comes in has at most `size` octets.
    Both are in the content format `kind`, a number below 256. `exponent` is that of the largest blocks.
    """

    def __init__(self, handle, kind, size, exponent=EXPONENT_MAX):
        self._handle = handle
        self._format = (coap.CONTENT_FORMAT, bytes((kind,)) if kind else b"")
        self._size = size
        self._exponent = exponent
        self._tag = None  # Request-Tag of the transfer
        self._asked = self._answer = b""  # body of the request as far as it came, body of the answer

    def answer(self, options, octets):
        """Return (CoAP code, options, body) as a flow. Raises MalformedMessage for a wrong block, or as `handle`."""
        if coap.option(options, coap.CONTENT_FORMAT) not in (None, self._format[1]):
            return _UNSUPPORTED_FORMAT, [], b""
        tag = coap.option(options, _REQUEST_TAG)
        number, _, wanted = _parse(coap.option(options, _BLOCK2), self._exponent)
        if number:
            return self._piece(tag, number, wanted)
        block1 = coap.option(options, _BLOCK1)
        number, more, exponent = _parse(block1, self._exponent)
        if not number:
            self._tag, self._asked = tag, b""
        if tag != self._tag:
            raise MalformedMessage("no such transfer")
        if len(self._asked) + len(octets) > self._size:
            self._asked = b""
            return _TOO_LARGE, [], b""
        self._asked = _joined(self._asked, number, more, exponent, octets)
        echo = [(_BLOCK1, block1)] if block1 is not None else []
        if more:
            return _CONTINUE, echo, b""
        body, self._asked, self._answer = self._asked, b"", b""
        self._answer = yield from self._handle(body)
        code, options, piece = self._piece(tag, 0, min(exponent, wanted))
        return code, options + echo, piece

    def _piece(self, tag, number, exponent):
        exponent = min(exponent, self._exponent)
        size = 16 << exponent
        start, body = number * size, self._answer
        if tag != self._tag or (number and start >= len(body)):
            raise MalformedMessage("no such transfer")
        more = start + size < len(body)
        if not more:
            self._answer = b""
        options = [self._format] if body else []
        if len(body) > size:
            options.append((_BLOCK2, _block(number, more, exponent)))
        return _CHANGED, options, body[start : start + size]


def ask(session, options, body, size_max, exponent=EXPONENT_MAX):
    """Send `body` in blocks to the resource that `options` name; return the body of the PN GW's answer. A flow.

    Raises as `Session.ask` does, TooMany for an answer above `size_max` octets, MalformedMessage for a wrong block.
    """
    size = 16 << exponent
    for start in range(0, max(len(body), 1), size):
        with_block = list(options)
        if len(body) > size:
            with_block.append((_BLOCK1, _block(start // size, start + size < len(body), exponent)))
        if exponent < EXPONENT_MAX:  # ask for an answer in blocks as small
            with_block.append((_BLOCK2, _block(0, False, exponent)))
        found, octets = yield from session.ask(with_block, body[start : start + size])
    answer = b""
    while True:
        number, more, exponent = _parse(coap.option(found, _BLOCK2), EXPONENT_MAX)
        answer = _joined(answer, number, more, exponent, octets)
        if len(answer) > size_max:
            raise TooMany("the answer is longer than it may be")
        if not more:
            return answer
        with_block = [pair for pair in options if pair[0] != coap.CONTENT_FORMAT]
        with_block.append((_BLOCK2, _block(number + 1, False, exponent)))
        found, octets = yield from session.ask(with_block, b"")


def _block(number, more, exponent):
    value = number << 4 | more << 3 | exponent
    return value.to_bytes(1 if number < 16 else 2 if number < 4096 else 3, "big")


def _parse(value, exponent):
    # Return (number, True if more follow, exponent). Without the option a body is its only block, with `exponent`
    if value is None:
        return 0, False, exponent
    number = int.from_bytes(value, "big")
    if number & 7 > EXPONENT_MAX or len(value) > 3:
        raise MalformedMessage("no block of this size")
    return number >> 4, bool(number & 8), number & 7


def _joined(so_far, number, more, exponent, octets):
    size = 16 << exponent
    if number * size != len(so_far) or len(octets) > size or (more and len(octets) < size):
        raise MalformedMessage("a block is missing, repeated or of a wrong size")
    return so_far + octets
