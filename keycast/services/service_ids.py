"""Identities that a command brings into a server of key material. What is only looked up needs no such check."""

from key_servers.errors import ServerError
from key_servers.identities import fault_of

NAME_MAX = 1024  # octets of a URI in documents of a KMS; other servers take fewer, and say so


class UnusableId(ServerError):
    """What was typed cannot be meant."""

    word = "not-allowed"


def require_uri(*identities: str) -> None:
    """Raise UnusableId with what is wrong unless all are URIs."""
    for each in identities:
        if fault := fault_of(each, NAME_MAX):
            raise UnusableId(fault)
