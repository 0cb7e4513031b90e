"""What can go wrong with a private store: what happened, and what a person does next."""

from collections.abc import Callable
from typing import NamedTuple


class PrivateStoreError(Exception):
    """Base. The text is one or two sentences for a person and never holds a secret."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class StoreUnusable(PrivateStoreError):
    """A file or folder that is missing, open to others, damaged, of a newer program, or cannot be written."""


class StoreInUse(PrivateStoreError):
    """Another process works on the same folder."""


class StoreFailed(PrivateStoreError):
    """A read or write failed while running: disk full, read-only, broken. Nothing of the transaction counts."""


Fault = Callable[[str, str], Exception]
"""Makes an exception of what happened and the next step: a class as those above."""


class Faults(NamedTuple):
    """What a store raises: the classes of the room that uses it, each one as its namesake above."""

    unusable: Fault = StoreUnusable
    in_use: Fault = StoreInUse
    failed: Fault = StoreFailed


FAULTS = Faults()
