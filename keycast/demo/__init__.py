"""Whole homes on this machine: the one of `keycast demo`, and the one of `keycast seal demo` below its key servers."""
