"""The choice of a slot of the tree for a PNE (broadcast_encryption section 8), as a pure function."""

from collections.abc import Container, Mapping

BLOCK = 8
"""Slots of an aligned block that is kept for one Service Group. Members side by side make covers 5 to 10 times smaller.
"""


def choose_slot(
    height: int, taken: Container[int], blocks: Mapping[int, str], group: str | None = None
) -> tuple[int, int | None] | None:
    """Pick a FREE slot of a tree with 2**height slots.

    `taken`: slots that are ACTIVE or RETIRED; `blocks`: reserved blocks, number -> SG ID; `group`: the SG ID whose
    blocks are preferred. Returns (slot, block to reserve for `group` or None), or None when the tree is full. Without a
    group the slot is the lowest free one outside of all blocks, or the lowest free one if there is none outside.
    """
    size = 1 << height
    if group is not None and size >= BLOCK:
        for block in sorted(number for number, owner in blocks.items() if owner == group):
            slot = _lowest(range(block * BLOCK, (block + 1) * BLOCK), taken)
            if slot is not None:
                return slot, None
        for block in range(size // BLOCK):
            inside = range(block * BLOCK, (block + 1) * BLOCK)
            if block not in blocks and not any(slot in taken for slot in inside):
                return inside[0], block
    outside = (slot for slot in range(size) if slot // BLOCK not in blocks and slot not in taken)
    slot = next(outside, None)
    if slot is None:
        slot = _lowest(range(size), taken)
    return None if slot is None else (slot, None)


def _lowest(slots: range, taken: Container[int]) -> int | None:
    return next((slot for slot in slots if slot not in taken), None)
