"""Whole homes on this machine: that of `keycast demo`, and that of `keycast seal demo`, with its key servers."""
