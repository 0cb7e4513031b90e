"""All keys that follow from the tree master secret: the PN GW's side of subset difference.

The PN GW stores nothing but the 32 random octets TM of a generation; labels, subset keys and GKDK records are
functions of it: L(i, i) = H16(TM, "sd1.label" ‖ u32(i)); L(i, 2v) ‖ L(i, 2v+1) = H(L(i, v), "sd1.g"); the key of the
subset "under i, but not under j" is H16(L(i, j), "sd1.k").
"""

from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.subset_index import Subset
from cpns.crypto.hmac import Hmac, fixed_message, h16

_REMEMBERED_MAX = 1 << 16  # subset keys, and pairs of labels, in memory: some 10 MB of each at most

_step = fixed_message(b"sd1.g")  # labels of both children, 32 octets
_key = fixed_message(b"sd1.k")


class TreeKeys:
    """The keys of one tree generation. It caches, in memory only, what the next cover or record is likely to need."""

    def __init__(self, tree_master: bytes, height: int) -> None:
        """`tree_master` has 32 octets, `height` is 2..16. Raises ValueError."""
        if len(tree_master) != 32 or not 2 <= height <= 16:
            raise ValueError("a tree has a master secret of 32 octets and a height of 2..16")
        self.height = height
        self._master = Hmac(tree_master)
        self._keys = {}  # subset -> its key: the next cover of a group has most subsets in common with this one
        self._labels = {}  # (i, v) -> labels under i of both children of v: records of neighbours share most of them

    def subset_key(self, subset: Subset) -> bytes:
        """Return the 16 octet key of a subset of this tree. `subset_index` describes the kinds of subsets."""
        key = self._keys.get(subset)
        if key is None:
            kind, node, hole = subset
            if kind == "S":
                key = _key(self._label(node, hole))[:16]
            elif kind == "P":
                key = self._pair_key(node, hole)
            else:
                key = self._key_all()
            _remember(self._keys, subset, key)
        return key

    def record(self, profile: int, generation: int, slot: int) -> GkdkRecord:
        """Return the GKDK of `slot` (CPNS-GKM-25). It is the same each time (SEC-19)."""
        h = self.height
        if profile not in (1, 2) or not 0 < generation < 65536 or not 0 <= slot < 1 << h:
            raise ValueError("no such profile, generation or slot")
        leaf = (1 << h) + slot
        parts = [bytes([profile, h]), generation.to_bytes(2, "big"), slot.to_bytes(4, "big"), self._key_all()]
        for di in range(h):
            i = leaf >> h - di
            label = self._label(i, i)
            for dj in range(di + 1, h + 1):
                parent = leaf >> h - dj + 1
                both = self._labels.get((i, parent))
                if both is None:
                    both = _step(label)
                    _remember(self._labels, (i, parent), both)
                if leaf >> h - dj & 1:  # the path goes right, so the left child is beside it
                    parts.append(both[:16])
                    label = both[16:]
                else:
                    parts.append(both[16:])
                    label = both[:16]
        if profile == 2:
            quad, r = leaf >> 2, slot & 3
            parts += [self._pair_key(quad, p) for p in range(4) if r in (p >> 1, 2 + (p & 1))]
        return GkdkRecord.parse(b"".join(parts))

    def report_key(self, slot: int) -> bytes:
        """Return the key of the confirmations of `slot`, the same as `GkdkRecord.report_key` (SEC-14)."""
        leaf = (1 << self.height) + slot
        return h16(self._label(leaf >> 1, leaf ^ 1), b"sd1.rep")

    def frame_key(self) -> bytes:
        """Return the key of the adverts of this generation, the same as `GkdkRecord.frame_key` (SEC-10)."""
        return h16(self._key_all(), b"sd1.frame")

    def _key_all(self):
        return self._master.digest(b"sd1.all")[:16]

    def _pair_key(self, quad, p):
        return self._master.digest(b"sd1.pair", quad.to_bytes(4, "big"), bytes([p]))[:16]

    def _label(self, i, j):
        # L(i, j): down from i, one step for each bit of j below the bits of i
        label = self._master.digest(b"sd1.label" + i.to_bytes(4, "big"))[:16]
        for turn in bin(j)[len(bin(i)) :]:
            label = _step(label)[16:] if turn == "1" else _step(label)[:16]
        return label


def _remember(known, name, value):
    if len(known) >= _REMEMBERED_MAX:
        known.clear()
    known[name] = value
