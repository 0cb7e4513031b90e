"""The GKDK of one PNE: the keys that it was given once, with which it opens each later broadcast addressed to it.

Record: profile u8 (2 with quad pairs, 1 without) ‖ height u8 ‖ generation u16 ‖ slot u32 ‖ KALL ‖ labels ‖ pair keys.
For every inner node i above the PNE's leaf, and every node a beside the path from i down to that leaf, it holds the
label L(i, a), ordered by the depths of i and a. One-way steps lead from there to the keys of all subsets "under i, but
not under j" with j at or under a: exactly those that contain the leaf.

A board needs no more than this module; `keys` makes the records.
"""

from cpns.crypto.hmac import h16, hmac_sha256
from cpns.errors import MalformedMessage, NotAddressed


class GkdkRecord:
    """A PNE's GKDK. Attributes: `profile` 1..2, `height` 2..16, `generation` 1..65535, `slot` 0..2^height - 1."""

    def __init__(self, octets: bytes) -> None:
        h = octets[1] if len(octets) > 8 else 0
        if not 2 <= h <= 16 or octets[0] not in (1, 2) or len(octets) != 8 * h * (h + 1) + 32 * octets[0] - 8:
            raise MalformedMessage("not a GKDK record")
        self._octets = octets
        self.profile = octets[0]
        self.height = h
        self.generation = octets[2] << 8 | octets[3]
        self.slot = slot = int.from_bytes(octets[4:8], "big")
        if slot >> h or not self.generation:
            raise MalformedMessage("a GKDK record without generation or slot")
        self._leaf = slot + (1 << h)
        self._depths = {
            self._leaf >> h - d: d for d in range(h + 1)
        }  # the nodes from the root to the leaf of this slot
        r = slot & 3
        self._pairs = (2 * r, 2 * r + 1) if r < 2 else (r - 2, r)  # p of the two pairs of its quad with this slot

    @classmethod
    def parse(cls, octets: bytes) -> "GkdkRecord":
        """Return the record in `octets`, which a GKDKAssignmentResponse carries. Raises MalformedMessage."""
        return cls(octets)

    def pack(self) -> bytes:
        """Return the octets of the record. They are secret: only the PNE's store and its session may hold them."""
        return self._octets

    def own_entry(self, entries: bytes) -> "tuple[int, bytes]":
        """Return (index, wrapped key) of the one entry of `entries` (packed index ‖ 16 octets) that is for this slot.

        Raises MalformedMessage if any index names no subset or two fit, NotAddressed if none fits.
        """
        width = 2 if self.height < 12 else 3
        if not entries or len(entries) % (width + 16):
            raise MalformedMessage("entries of a wrong length")
        own = None
        for at in range(0, len(entries), width + 16):
            index = entries[at] << 8 | entries[at + 1]
            if width == 3:
                index = index << 8 | entries[at + 2]
            if self._is_in(index):
                if own:
                    raise MalformedMessage("two entries for one slot")
                own = index, entries[at + width : at + width + 16]
        if not own:
            raise NotAddressed("no entry for this slot")
        return own

    def subset_key(self, index: int) -> bytes:
        """Return the 16 octet key of the subset that an Encryption Key index names (section 5 of the definition).

        Raises MalformedMessage if it names no subset, NotAddressed if the subset does not hold this slot.
        """
        if not self._is_in(index):
            raise NotAddressed("not a subset of this slot")
        top, node, pair = self._split(index)
        if index == 1:
            return self._octets[8:24]
        if pair >= 0:
            at = len(self._octets) - 32 + 16 * self._pairs.index(pair)
            return self._octets[at : at + 16]
        i = node >> top + 1
        turns = []  # from the node whose label is held down to j
        while node >> 1 not in self._depths:
            turns.append(node & 1)
            node >>= 1
        label = self._label(i, node)
        while turns:
            label = hmac_sha256(label, b"sd1.g")
            label = label[16:] if turns.pop() else label[:16]
        return h16(label, b"sd1.k")

    def report_key(self) -> bytes:
        """Return the key of this slot's confirmations, 16 octets, that only this slot and the PN GW derive (SEC-14)."""
        return h16(self._label(self._leaf >> 1, self._leaf ^ 1), b"sd1.rep")

    def frame_key(self) -> bytes:
        """Return the key of the adverts of this generation, 16 octets, the same for the whole tree (SEC-10)."""
        return h16(self._octets[8:24], b"sd1.frame")

    def _split(self, index):
        # depth(j) - depth(i) - 1, then j; or for a pair its p (else -1) and q
        bits = 12 if self.height < 12 else 17
        top = index >> bits
        return top, index & (1 << bits) - 1, top - (11 if bits == 12 else 16)

    def _is_in(self, index):
        # is this slot in the subset? An index that names no subset in this tree is refused, 0 (SEC-01) too
        top, node, pair = self._split(index)
        if index == 1:
            return True
        if pair >= 0:
            if pair > 3 or self.profile < 2 or node >> self.height - 2 != 1:
                raise MalformedMessage("Encryption Key index of no pair")
            return node == self._leaf >> 2 and pair in self._pairs
        i = node >> top + 1
        if not i or node >> self.height + 1:
            raise MalformedMessage("Encryption Key index of no subset")
        return i in self._depths and node not in self._depths

    def _label(self, i, a):
        di = self._depths[i]
        at = 24 + 16 * (di * self.height - di * (di - 1) // 2 + self._depths[a >> 1] - di)
        return self._octets[at : at + 16]
