"""The errors of a private store. Each says what happened and what a person can do next."""

from collections.abc import Callable
from typing import NamedTuple


class PrivateStoreError(Exception):
    """The base class. The text is one or two sentences for a person and never holds a secret."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class StoreUnusable(PrivateStoreError):
    """A file or folder is missing, open to other users, damaged, made by a newer program, or cannot be written."""


class StoreInUse(PrivateStoreError):
    """Another process works on the same folder."""


class StoreFailed(PrivateStoreError):
    """A read or write failed after the opening: disk full, read-only, broken. Nothing of the transaction was kept."""


Fault = Callable[[str, str], Exception]
"""Makes an exception of what happened and the next step: a class as those above."""


class Faults(NamedTuple):
    """The classes that a store raises in place of those above. The room that uses the store names its own."""

    unusable: Fault = StoreUnusable
    in_use: Fault = StoreInUse
    failed: Fault = StoreFailed


FAULTS = Faults()
