"""Long bodies in blocks inside OSCORE (RFC 7959, RFC 9175), where a resource has them.

Pure: `now` in seconds, monotonic.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cpns.errors import MalformedMessage, TooMany
from message_plane import tuning

SIZE_EXPONENT = 6  # 2 ** (6 + 4) = BLOCK octets
TRANSFERS_PER_SESSION = 8


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a Block1 or Block2 option: block `number`, and whether `more` follow."""

    number: int
    more: bool

    @property
    def option(self) -> tuple[int, bool, int]:
        """As aiocoap takes it."""
        return (self.number, self.more, SIZE_EXPONENT)


def cut(payload: bytes, number: int) -> tuple[bytes, Block]:
    """Block `number` of `payload`. Raises MalformedMessage if there is none."""
    start = number * tuning.BLOCK
    if number and start >= len(payload):
        raise MalformedMessage("no such block")
    return payload[start : start + tuning.BLOCK], Block(number, start + tuning.BLOCK < len(payload))


def join(so_far: bytes, block: Block, piece: bytes, size_max: int) -> bytes:
    """`so_far` and the next block. Raises MalformedMessage: out of order, of a wrong size; TooMany: over `size_max`."""
    if block.number * tuning.BLOCK != len(so_far):
        raise MalformedMessage("a block is missing or repeated")
    if len(piece) > tuning.BLOCK or (block.more and len(piece) < tuning.BLOCK):
        raise MalformedMessage(f"a block has {tuning.BLOCK} octets")
    if len(so_far) + len(piece) > size_max:
        raise TooMany(f"a body has at most {size_max} octets here")
    return so_far + piece


class Transfers:
    """Requests and answers of one resource that travel in blocks: by session and Request-Tag, few, short-lived."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[bytes, bytes], tuple[float, bytes]] = OrderedDict()

    def collect(
        self, session: bytes, tag: bytes, block: Block, piece: bytes, size_max: int, now: float
    ) -> bytes | None:
        """Add a Block1 piece: the whole body with its last piece, else None. Raises MalformedMessage, TooMany."""
        so_far = b"" if block.number == 0 else self._take(session, tag, now)
        body = join(so_far, block, piece, size_max)
        if not block.more:
            return body
        self.keep(session, tag, body, now)
        return None

    def keep(self, session: bytes, tag: bytes, body: bytes, now: float) -> None:
        """Keep `body` until its next piece comes or is asked for."""
        self._bodies.pop((session, tag), None)
        self._bodies[session, tag] = (now + tuning.BLOCKWISE_S, body)
        of_session = [key for key in self._bodies if key[0] == session]
        for key in of_session[: max(0, len(of_session) - TRANSFERS_PER_SESSION)]:
            del self._bodies[key]

    def piece(self, session: bytes, tag: bytes, number: int, now: float) -> tuple[bytes, Block]:
        """Block `number` of the answer kept. Raises MalformedMessage if it is not there any more."""
        body = self._take(session, tag, now)
        piece, block = cut(body, number)
        if block.more:
            self.keep(session, tag, body, now)
        return piece, block

    def expire(self, now: float) -> None:
        """Forget transfers that rest too long."""
        for key in [key for key, (ends, _) in self._bodies.items() if ends <= now]:
            del self._bodies[key]

    def _take(self, session: bytes, tag: bytes, now: float) -> bytes:
        ends, body = self._bodies.pop((session, tag), (0.0, b""))
        if ends <= now:
            raise MalformedMessage("no such transfer")
        return body
