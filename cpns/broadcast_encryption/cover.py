"""The cover of a Service Group: the fewest subsets that together hold exactly its members. With keys it is the GKEK.

All other slots are outside, free, retired and foreign ones alike. Otherwise the next owner of a slot could read old
broadcasts (CPNS-GKM-75).
"""

from cpns.broadcast_encryption.subset_index import ALL, Subset, bit_length, smallest_slot


def cover(height: int, profile: int, members: "set[int]") -> "list[Subset]":
    """Return the minimal partition of `members` (slots 0..2^height - 1) into subsets, in canonical order.

    `profile` 2 uses quad pairs, 1 does not. `members` is any iterable; without members the list is empty. Apart from
    one look at each slot the work grows with the number of outsiders or of members, whichever is less.
    Raises ValueError for a slot or profile that does not exist.
    """
    size = 1 << height
    if not isinstance(members, (set, frozenset)):
        members = set(members)
    if not 2 <= height <= 16 or profile not in (1, 2):
        raise ValueError("height is 2..16, profile 1 or 2")
    if not members:
        return []
    if 2 * len(members) >= size:
        outside = [slot for slot in range(size) if slot not in members]
        if len(outside) != size - len(members):
            raise ValueError("a member's slot is not in the tree")
        if not outside:
            return [ALL]
        closed = [(slot, slot + size) for slot in outside]
    else:
        ordered = sorted(members)
        if ordered[0] < 0 or ordered[-1] >= size:
            raise ValueError("a member's slot is not in the tree")
        closed = _gaps(height, ordered)
    subsets = _merge(height, profile, closed)
    if len(subsets) > 1:
        subsets.sort(key=lambda subset: smallest_slot(height, subset))
    return subsets


def _gaps(height, members):
    # the gaps between the members, as maximal whole subtrees: (first slot, node)
    blocks = []
    start = 0
    members.append(1 << height)
    for stop in members:
        while start < stop:
            level = bit_length(stop - start) - 1
            if start:
                level = min(level, bit_length(start & -start) - 1)
            blocks.append((start, (1 << height | start) >> level))
            start += 1 << level
        start = stop + 1
    return blocks


def _merge(height, profile, closed):
    # Where two neighbouring blocks without member meet, in their common ancestor v, each child of v has exactly one
    # node `hole` without members under it, and all else under the child is members: the subset (child, hole), empty
    # if the hole is the child itself. These subsets cover all members under v: for its parent, v is a node without any.
    size = 1 << height
    subsets = []
    before, hole = closed[0]
    holes = [hole]  # from left to right, waiting for their right neighbour
    levels = [height + 1]  # height above the leaves at which each hole meets its left neighbour; falling
    closed.append((size, 0))  # beyond the tree: everything left meets before this one
    for slot, hole in closed[1:]:
        level = bit_length(slot ^ before)
        while levels[-1] < level:
            meet = levels.pop()
            right = holes.pop()
            left = holes[-1]
            v = holes[-1] = size + before >> meet
            if profile == 2 and meet == 2 and left != 2 * v and right != 2 * v + 1:
                # one member in each half of a quad, beside the hole
                subsets.append(Subset("P", v, 2 * (~left & 1) + (~right & 1)))
                continue
            if left != 2 * v:
                subsets.append(Subset("S", 2 * v, left))
            if right != 2 * v + 1:
                subsets.append(Subset("S", 2 * v + 1, right))
        levels.append(level)
        holes.append(hole)
        before = slot
    if holes[0] != 1:
        subsets.append(Subset("S", 1, holes[0]))
    return subsets
