"""Subset difference with quad pairs: who may read a broadcast is decided by which keys it is encrypted under.

A board needs `gkdk` (its own keys) and `wrapping`. The PN GW also uses `keys` (everything that follows from the
tree master secret), `cover` (the GKEK: which subsets address exactly the members) and `subset_index`.

The tree: nodes are heap numbers, root 1, children 2v and 2v+1; the leaf of slot s is 2^height + s.
"""
