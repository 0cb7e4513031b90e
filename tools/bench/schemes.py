"""Other ways to re-key a group when one member leaves, counted in the same run: octets of key material.

Each function returns the number of 16-octet wraps that a sender must broadcast. `octets` converts it to octets, with
the indexes by which receivers find their wraps. The table says which schemes are stateless and which are stateful.
"""

from math import ceil, log2

WRAP = 16


def octets(wraps: int, *, index: int = 2) -> int:
    """Return the octets of `wraps` wrapped keys, each with an index of `index` octets."""
    return wraps * (WRAP + index)


def per_member_list(members: int) -> int:
    """Return the wraps if each remaining member gets one, in one broadcast or by unicast. Stateless."""
    return members - 1


def logical_key_hierarchy(members: int) -> int:
    """Return the wraps of LKH (RFC 2627) on a binary tree. Each node key on the leaver's path is new and wrapped under
    the keys of its two children, except the lowest, whose one child is the sibling that stays. Stateful."""
    if members < 2:
        return 0
    depth = ceil(log2(members))
    return 2 * depth - 1


def complete_subtree(slots: int, outsiders: frozenset[int]) -> int:
    """Return the wraps of complete subtree (Naor et al.): one for each maximal subtree without outsiders. Stateless."""
    return len(complete_subtree_nodes(slots, outsiders))


def complete_subtree_nodes(slots: int, outsiders: frozenset[int]) -> list[int]:
    """Return the roots of these subtrees in a binary tree of `slots` (a power of two) leaves. Node 1 is the root, and
    the children of v are 2 v and 2 v + 1."""
    marked = {(slots + slot) >> up for slot in outsiders for up in range(slots.bit_length())}
    if not marked:
        return [1]
    return [child for node in marked if node < slots for child in (2 * node, 2 * node + 1) if child not in marked]
