"""Subsets and their Encryption Key index: its octets on the air and its text in CPNS-GKM-48.

The PN GW and tools use it; a board reads indexes in `gkdk`, without building subsets.
"""

from collections import namedtuple

from cpns.errors import MalformedMessage

# kind "S": the leaves under `node` that are not under `hole`; "P": pair number `hole` (0..3) of quad `node`; "A": all.
Subset = namedtuple("Subset", ("kind", "node", "hole"))

ALL = Subset("A", 1, 0)

if hasattr(int, "bit_length"):
    bit_length = int.bit_length
else:

    def bit_length(x: int) -> int:
        return len(bin(x)) - 2


def width(height: int) -> int:
    """Return the length of an index in a tree of `height`: 2 octets up to height 11, 3 up to 16."""
    return 2 if height < 12 else 3


def encode(height: int, subset: Subset) -> bytes:
    """Return the index of `subset`, 2 or 3 octets. Raises ValueError if the tree has no such subset."""
    bits, pairs = (12, 11) if height < 12 else (17, 16)
    kind, node, hole = subset
    if kind == "A":
        value = 1
    elif kind == "P":
        if node >> height - 2 != 1 or not 0 <= hole <= 3:
            raise ValueError("no such pair in this tree")
        value = pairs + hole << bits | node
    else:
        down = bit_length(hole) - bit_length(node)
        if down < 1 or node < 1 or hole >> down != node or hole >> height + 1:
            raise ValueError("no such subset in this tree")
        value = down - 1 << bits | hole
    return value.to_bytes(width(height), "big")


def decode(height: int, data: bytes) -> Subset:
    """Return the subset that an index names. Raises MalformedMessage if it names none; 0 names none (SEC-01)."""
    if not 2 <= height <= 16 or len(data) != width(height):
        raise MalformedMessage("an Encryption Key index of the wrong length")
    bits, pairs = (12, 11) if height < 12 else (17, 16)
    value = int.from_bytes(data, "big")
    top, node = value >> bits, value & (1 << bits) - 1
    if value == 1:
        return ALL
    if top >= pairs:
        if top > pairs + 3 or node >> height - 2 != 1:
            raise MalformedMessage("Encryption Key index of no pair")
        return Subset("P", node, top - pairs)
    if not node >> top + 1 or node >> height + 1:
        raise MalformedMessage("Encryption Key index of no subset")
    return Subset("S", node >> top + 1, node)


def smallest_slot(height: int, subset: Subset) -> int:
    """Return the smallest slot in `subset`, by which the canonical order of a cover sorts."""
    kind, node, hole = subset
    if kind == "A":
        return 0
    if kind == "P":
        return (node << 2) - (1 << height) + (hole >> 1)
    first = _first(height, node)
    return _first(height, hole + 1) if _first(height, hole) == first else first


def largest_slot(height: int, subset: Subset) -> int:
    """Return the largest slot in `subset`."""
    kind, node, hole = subset
    if kind == "A":
        return (1 << height) - 1
    if kind == "P":
        return (node << 2) - (1 << height) + 2 + (hole & 1)
    end = _end(height, node)
    return (_first(height, hole) if _end(height, hole) == end else end) - 1


def slots(height: int, subset: Subset) -> "list[int]":
    """Return all slots in `subset`, ascending."""
    kind, node, hole = subset
    if kind == "A":
        return list(range(1 << height))
    if kind == "P":
        return [smallest_slot(height, subset), largest_slot(height, subset)]
    inside = range(_first(height, hole), _end(height, hole))
    return [slot for slot in range(_first(height, node), _end(height, node)) if slot not in inside]


def to_text(generation: int, index: bytes) -> str:
    """Return the String form: `1.200d` for index 200d in generation 1."""
    return "%d.%s" % (generation, index.hex())


def from_text(height: int, text: str) -> "tuple[int, bytes]":
    """Return (generation, index octets) of a String form. Raises MalformedMessage unless `to_text` returns `text`."""
    try:
        left, right = text.split(".")
        generation, index = int(left), bytes.fromhex(right)
    except ValueError as error:
        raise MalformedMessage("not an Encryption Key index") from error
    decode(height, index)
    if not 0 < generation < 65536 or to_text(generation, index) != text:
        raise MalformedMessage("not an Encryption Key index")
    return generation, index


def _first(height, node):
    # slot of the leftmost leaf under node
    return (node << height + 1 - bit_length(node)) - (1 << height)


def _end(height, node):
    return (node + 1 << height + 1 - bit_length(node)) - (1 << height)
