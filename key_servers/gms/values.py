"""The values that the GMS stores: frozen; times are Unix seconds, a GMK-ID is its 8 hexadecimal digits."""

from dataclasses import dataclass, field
from enum import StrEnum


class Affiliation(StrEnum):
    """The way in which a user is affiliated to a group (SEAL-GMK-37, -41): implicitly by the list, or explicitly by
    itself."""

    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


class KeyState(StrEnum):
    """LIVE: handed to every entitled user. RETIRED: replaced, not handed out any more. REVOKED: must not be used."""

    LIVE = "live"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ValUser:
    """A user.

    `permitted` is an operator's permission for group management services; `authorised_until` is set by its token.
    """

    uri: str
    permitted: bool
    authorised_until: int


@dataclass(frozen=True, slots=True)
class ValGroup:
    """A group. `rekey_on_removal` is its security profile (SEAL-GMK-48)."""

    uri: str
    name: str
    rekey_on_removal: bool


@dataclass(frozen=True, slots=True)
class ValMember:
    """A user on the list of a group. It gets the key once affiliated, subscribed and authorised."""

    group: str
    user: str
    affiliation: Affiliation
    affiliated: bool
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Key:
    """A GMK (16 octets, None once erased) and its parameters. `groups` are those that it serves now (SEAL-GMK-06)."""

    key_id: str
    gmk: bytes | None = field(repr=False)
    activation: int
    expiry: int
    text: str
    state: KeyState
    groups: tuple[str, ...]


def entitled(user: ValUser | None, member: ValMember | None, now: int) -> bool:
    """Return True if group management records and the GMK may go to the user now.

    The user must be authorised, in both cases of affiliation (SEAL-GMK-38, -42), and affiliated, and its subscription
    must be valid (SEAL-GMK-42); the implicit case includes the subscription (SEAL-GMK-37).
    """
    if user is None or member is None or member.user != user.uri:
        return False
    return user.permitted and now < user.authorised_until and member.affiliated and member.subscribed
