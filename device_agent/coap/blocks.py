"""Bodies in blocks (RFC 7959) inside OSCORE, of resources that have them; only boards with such a resource load this.

A block has 1,024 octets. A board has room for one transfer of a resource at a time: whoever begins another ends it.
"""

from cpns.errors import MalformedMessage, TooMany
from device_agent.coap import message as coap

BLOCK = 1024
_BLOCK2, _BLOCK1, _REQUEST_TAG = 23, 27, 292
_CHANGED, _CONTINUE, _TOO_LARGE, _UNSUPPORTED_FORMAT = 0x44, 0x5F, 0x8D, 0x8F


class Blocks:
    """A resource whose bodies travel in blocks; its `answer` is what the table of `requests.py` has.

    `handle(body)` is a flow whose value is the body of the answer. Either has at most `size` octets, in the content
    format `kind`, a number below 256.
    """

    def __init__(self, handle, kind, size):
        self._handle = handle
        self._format = (coap.CONTENT_FORMAT, bytes((kind,)) if kind else b"")
        self._size = size
        self._tag = None  # Request-Tag of the transfer
        self._asked = self._answer = b""  # what has come of the request, what the answer is

    def answer(self, options, octets):
        """Flow -> (CoAP code, options, body). MalformedMessage for a block out of order; what `handle` raises."""
        if coap.option(options, coap.CONTENT_FORMAT) not in (None, self._format[1]):
            return _UNSUPPORTED_FORMAT, [], b""
        tag = coap.option(options, _REQUEST_TAG)
        number, _ = _parse(coap.option(options, _BLOCK2))
        if number:
            return self._piece(tag, number)
        block1 = coap.option(options, _BLOCK1)
        number, more = _parse(block1)
        if not number:
            self._tag, self._asked = tag, b""
        if tag != self._tag:
            raise MalformedMessage("no such transfer")
        if len(self._asked) + len(octets) > self._size:
            self._asked = b""
            return _TOO_LARGE, [], b""
        self._asked = _joined(self._asked, number, more, octets)
        echo = [(_BLOCK1, block1)] if block1 else []
        if more:
            return _CONTINUE, echo, b""
        body, self._asked, self._answer = self._asked, b"", b""
        self._answer = yield from self._handle(body)
        code, options, piece = self._piece(tag, 0)
        return code, options + echo, piece

    def _piece(self, tag, number):
        start, body = number * BLOCK, self._answer
        if tag != self._tag or (number and start >= len(body)):
            raise MalformedMessage("no such transfer")
        more = start + BLOCK < len(body)
        if not more:
            self._answer = b""
        options = [self._format] if body else []
        if len(body) > BLOCK:
            options.append((_BLOCK2, _block(number, more)))
        return _CHANGED, options, body[start : start + BLOCK]


def ask(session, options, body, size):
    """Flow: ask the PN GW for what `options` name, in blocks -> the body of the answer, of at most `size` octets.

    Raises what `Session.ask` raises, TooMany for a longer answer, MalformedMessage for a block out of order.
    """
    for start in range(0, max(len(body), 1), BLOCK):
        with_block = list(options)
        if len(body) > BLOCK:
            with_block.append((_BLOCK1, _block(start // BLOCK, start + BLOCK < len(body))))
        found, octets = yield from session.ask(with_block, body[start : start + BLOCK])
    answer = b""
    while True:
        number, more = _parse(coap.option(found, _BLOCK2))
        answer = _joined(answer, number, more, octets)
        if len(answer) > size:
            raise TooMany("the answer is longer than it may be")
        if not more:
            return answer
        with_block = [pair for pair in options if pair[0] != coap.CONTENT_FORMAT]
        with_block.append((_BLOCK2, _block(number + 1, False)))
        found, octets = yield from session.ask(with_block, b"")


def _block(number, more):
    value = number << 4 | more << 3 | 6
    return value.to_bytes(1 if number < 16 else 2 if number < 4096 else 3, "big")


def _parse(value):
    # -> (number, whether more follow); without the option a body is its only block
    if not value:
        return 0, False
    number = int.from_bytes(value, "big")
    if number & 7 != 6 or len(value) > 3:
        raise MalformedMessage("a block has 1,024 octets")
    return number >> 4, bool(number & 8)


def _joined(so_far, number, more, octets):
    if number * BLOCK != len(so_far) or len(octets) > BLOCK or (more and len(octets) < BLOCK):
        raise MalformedMessage("a block is missing, repeated or of a wrong size")
    return so_far + octets
