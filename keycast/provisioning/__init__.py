"""Provisioning of boards: the identity that a board gets before its first start, and keys and groups of VAL clients."""
