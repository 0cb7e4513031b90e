"""Errors that stop a key server or one of its commands: what happened, and what to do next."""

import re

from private_store.errors import Faults


class ServerError(Exception):
    """Base. The text is one or two sentences for a person and never holds a secret.

    `next_step` is what the person can do about it.
    """

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class NotPossible(ServerError):
    """A request of an operator does not fit the present state: an unknown group or user, a wrong order of steps."""


class StoreInUse(ServerError):
    """Another process uses the same store."""


class StoreUnusable(ServerError):
    """The store cannot be opened: wrong mode, damaged, or written by a newer release."""


class StoreFailed(ServerError):
    """A read or write failed while running: the disk is full, the medium is broken. The transaction is undone."""


class StoreContended(StoreFailed):
    """Another process changed what a transaction had read. The transaction is undone and can be run again."""


class SecretFileUnusable(ServerError):
    """A file with secrets is missing, readable by others, there already, or has a wrong content."""


FAULTS = Faults(StoreUnusable, StoreInUse, StoreFailed)


def code_of(error: Exception) -> str:
    """Return the word by which programs know the kind of an error, such as "not-possible": its class in small letters.

    The words do not change.
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
