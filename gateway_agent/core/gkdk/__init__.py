"""The tree of GKDKs: the GKDK of each PNE, and the GKEKs that only present members can derive."""
