"""The check of identities that a command adds to a KMS, GMS or CMS. An identity that is only looked up needs none."""

from key_servers.errors import ServerError
from key_servers.identities import fault_of

NAME_MAX = 1024  # octets of a URI in documents of a KMS; other servers accept fewer, and refuse longer ones themselves


class UnusableId(ServerError):
    """What a person typed is no usable identity."""

    word = "not-allowed"


def require_uri(*identities: str) -> None:
    """Raise UnusableId, which says what is wrong, unless all `identities` are URIs."""
    for each in identities:
        if fault := fault_of(each, NAME_MAX):
            raise UnusableId(fault)
