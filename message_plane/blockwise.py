"""Long bodies in blocks inside OSCORE (RFC 7959, RFC 9175), where a resource has them, as large as a link allows.

Pure: `now` in seconds, monotonic.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cpns.errors import MalformedMessage, TooMany
from message_plane import tuning

TRANSFERS_PER_SESSION = 8


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a Block1 or Block2 option: block `number`, whether `more` follow, and the exponent of their size."""

    number: int
    more: bool
    size_exponent: int

    @property
    def option(self) -> tuple[int, bool, int]:
        """As aiocoap takes it."""
        return (self.number, self.more, self.size_exponent)

    @property
    def size(self) -> int:
        """Octets of each block but the last one."""
        return block_size(self.size_exponent)


def block_size(exponent: int) -> int:
    """Return the octets of a block with this size exponent (SZX: RFC 7959, 2.2)."""
    return 1 << exponent + 4


def exponent_for(datagram_max: int) -> int:
    """Return the size exponent of the largest blocks that fit into datagrams of `datagram_max` octets."""
    return min(tuning.BLOCK_EXPONENT_MAX, (datagram_max - tuning.AROUND_PAYLOAD).bit_length() - 5)


def cut(payload: bytes, number: int, exponent: int) -> tuple[bytes, Block]:
    """Block `number` of `payload`, in blocks of this size exponent. Raises MalformedMessage if there is none."""
    size = block_size(exponent)
    start = number * size
    if number and start >= len(payload):
        raise MalformedMessage("no such block")
    return payload[start : start + size], Block(number, start + size < len(payload), exponent)


def join(so_far: bytes, block: Block, piece: bytes, size_max: int) -> bytes:
    """Return `so_far` and the next block.

    Raises MalformedMessage: out of order, of a wrong size; TooMany: over `size_max`.
    """
    if block.size_exponent > tuning.BLOCK_EXPONENT_MAX:
        raise MalformedMessage(f"a block has at most {block_size(tuning.BLOCK_EXPONENT_MAX)} octets")
    if block.number * block.size != len(so_far):
        raise MalformedMessage("a block is missing or repeated")
    if len(piece) > block.size or (block.more and len(piece) < block.size):
        raise MalformedMessage(f"a block has {block.size} octets")
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

    def piece(self, session: bytes, tag: bytes, number: int, exponent: int, now: float) -> tuple[bytes, Block]:
        """Block `number` of the answer kept, in blocks of this size exponent.

        Raises MalformedMessage if it is not there any more.
        """
        body = self._take(session, tag, now)
        piece, block = cut(body, number, exponent)
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
