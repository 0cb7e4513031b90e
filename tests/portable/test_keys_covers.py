"""Covers of large trees against the vectors, entry by entry, on both Pythons."""

import gc
import json
from hashlib import sha256

from vmtest import ON_VM, req

from cpns.broadcast_encryption import subset_index, wrapping
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys

unhex = bytes.fromhex
with open("tests/vectors/broadcast_encryption.json") as file:
    VECTORS = json.load(file)
TM = unhex(VECTORS["tree_master"])
GK = unhex(VECTORS["group_key"])
AT_ONCE = 64 if ON_VM else 1 << 16

CHOICES = {
    "not a multiple of 20": lambda s: s % 20,
    "37 s mod 1024 below 512": lambda s: 37 * s % 1024 < 512,
    "even number of ones": lambda s: bin(s).count("1") % 2 == 0,
    "SHA-256 below 128": lambda s: sha256(s.to_bytes(2, "big")).digest()[0] < 128,
    "SHA-256 below 243": lambda s: sha256(s.to_bytes(2, "big")).digest()[0] < 243,
}


def digest_of_cover(height, profile, members):
    """(entries, SHA-256 over index ‖ W16 of each entry), with as little memory as a board has."""
    subsets = cover(height, profile, members)
    digest = sha256()
    for at in range(0, len(subsets), AT_ONCE):
        keys = TreeKeys(TM, height)  # anew: it remembers what it derived
        for subset in subsets[at : at + AT_ONCE]:
            digest.update(subset_index.encode(height, subset) + wrapping.w16_wrap(keys.subset_key(subset), GK))
        gc.collect()
    return len(subsets), digest.digest()


@req("CPNS-GKM-35")
def test_covers_of_large_trees():
    for height, choice, count, profile, entries, digest in VECTORS["digests"]:
        chosen = CHOICES[choice]
        members = [slot for slot in range(1 << height) if chosen(slot)]
        assert len(members) == count
        assert digest_of_cover(height, profile, members) == (entries, unhex(digest))
        gc.collect()
