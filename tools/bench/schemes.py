"""Other ways to re-key a group when one member leaves, counted in the same run: octets of key material.

Each function gives the number of 16-octet wraps a sender has to put on the air; `octets` turns them into octets with
the index that tells a receiver which is its own. Stateless and stateful schemes are named as such in the table.
"""

from math import ceil, log2

WRAP = 16


def octets(wraps: int, *, index: int = 2) -> int:
    """Octets of `wraps` wrapped keys, each with an index of `index` octets."""
    return wraps * (WRAP + index)


def per_member_list(members: int) -> int:
    """One wrap for each remaining member, in one broadcast or by unicast. Stateless."""
    return members - 1


def logical_key_hierarchy(members: int) -> int:
    """LKH (RFC 2627) on a binary tree: on the leaver's path every node key is new and is wrapped under the keys of
    its two children, except the lowest, whose one child is the sibling that stays. Stateful."""
    if members < 2:
        return 0
    depth = ceil(log2(members))
    return 2 * depth - 1


def complete_subtree(slots: int, outsiders: frozenset[int]) -> int:
    """Complete subtree (Naor, Naor, Lotspiech): one wrap for each maximal subtree without an outsider. Stateless."""
    return len(complete_subtree_nodes(slots, outsiders))


def complete_subtree_nodes(slots: int, outsiders: frozenset[int]) -> list[int]:
    """The roots of those subtrees of a binary tree of `slots` (a power of two) leaves; node 1 is the root, the children
    of v are 2 v and 2 v + 1."""
    marked = {(slots + slot) >> up for slot in outsiders for up in range(slots.bit_length())}
    if not marked:
        return [1]
    return [child for node in marked if node < slots for child in (2 * node, 2 * node + 1) if child not in marked]
