"""The tree of device keys: which PNE has which GKDK, and the GKEK that only present members can derive."""
