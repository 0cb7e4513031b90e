"""Transfer of long bodies in blocks inside OSCORE (RFC 7959, RFC 9175), for resources that allow it.

The link decides how large the blocks are. There is no I/O in here; `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cpns.errors import MalformedMessage, TooMany
from message_plane import tuning

TRANSFERS_PER_PEER = 8


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a Block1 or Block2 option: the block's `number`, whether `more` follow, and their size exponent."""

    number: int
    more: bool
    size_exponent: int

    @property
    def option(self) -> tuple[int, bool, int]:
        """The value in the form that aiocoap accepts."""
        return (self.number, self.more, self.size_exponent)

    @property
    def size(self) -> int:
        """The octets of each block except the last one."""
        return block_size(self.size_exponent)


def block_size(exponent: int) -> int:
    """Return the octets of a block with this size exponent (SZX in RFC 7959, 2.2)."""
    return 1 << exponent + 4


def exponent_for(datagram_max: int) -> int:
    """Return the size exponent of the largest blocks that fit into datagrams of `datagram_max` octets."""
    return min(tuning.BLOCK_EXPONENT_MAX, (datagram_max - tuning.AROUND_PAYLOAD).bit_length() - 5)


def cut(payload: bytes, number: int, exponent: int) -> tuple[bytes, Block]:
    """Return (piece, Block) for block `number` of `payload`, in blocks of this size exponent.

    Raises MalformedMessage if there is no such block.
    """
    size = block_size(exponent)
    start = number * size
    if number and start >= len(payload):
        raise MalformedMessage("no such block")
    return payload[start : start + size], Block(number, start + size < len(payload), exponent)


def join(so_far: bytes, block: Block, piece: bytes, size_max: int) -> bytes:
    """Return `so_far` followed by `piece`, the content of the next block.

    Raises MalformedMessage if the block is out of order or of a wrong size, TooMany if the body is above `size_max`
    octets.
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
    """The bodies of one resource that are being transferred in blocks, by peer and tag.

    Each peer may have TRANSFERS_PER_PEER of them, a newer one in place of its oldest; a transfer that rests for
    BLOCKWISE_S is forgotten. `peer` is the name under which limits count it, whatever session it uses.
    """

    def __init__(self) -> None:
        self._bodies: dict[str | bytes, OrderedDict[bytes, tuple[float, bytes]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._bodies.values()))

    def collect(
        self, peer: str | bytes, tag: bytes, block: Block, piece: bytes, size_max: int, now: float
    ) -> bytes | None:
        """Add the piece of a Block1 option; return the whole body if it was the last piece, else None.

        Raises MalformedMessage, TooMany.
        """
        so_far = b"" if block.number == 0 else self._take(peer, tag, now)
        body = join(so_far, block, piece, size_max)
        if not block.more:
            return body
        self.keep(peer, tag, body, now)
        return None

    def keep(self, peer: str | bytes, tag: bytes, body: bytes, now: float) -> None:
        """Keep `body` until its next piece comes or is requested."""
        bodies = self._bodies.setdefault(peer, OrderedDict())
        bodies.pop(tag, None)
        bodies[tag] = (now + tuning.BLOCKWISE_S, body)
        if len(bodies) > TRANSFERS_PER_PEER:
            bodies.popitem(last=False)

    def piece(self, peer: str | bytes, tag: bytes, number: int, exponent: int, now: float) -> tuple[bytes, Block]:
        """Return (piece, Block) for block `number` of the answer that was kept, in blocks of this size exponent.

        Raises MalformedMessage if the answer is not kept any more or has no such block.
        """
        body = self._take(peer, tag, now)
        piece, block = cut(body, number, exponent)
        if block.more:
            self.keep(peer, tag, body, now)
        return piece, block

    def expire(self, now: float) -> None:
        """Forget transfers that have rested too long."""
        for peer, bodies in list(self._bodies.items()):
            for tag in [tag for tag, (ends, _) in bodies.items() if ends <= now]:
                del bodies[tag]
            if not bodies:
                del self._bodies[peer]

    def _take(self, peer: str | bytes, tag: bytes, now: float) -> bytes:
        ends, body = self._bodies.get(peer, OrderedDict()).pop(tag, (0.0, b""))
        if ends <= now:
            raise MalformedMessage("no such transfer")
        return body
