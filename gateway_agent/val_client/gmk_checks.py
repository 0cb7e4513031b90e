"""The checks of an opened GMK against the keys that the client holds and against the user's profile, as pure functions.

`i_message.open_` has already checked bounds, clock window, receiver, KMS, initiator, signature, decapsulation and
decryption of the parameters (SEAL-GMK-27, -28, -30, -31; MC-GMK-12, -14, -16).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from gateway_agent.val_client.gmk_store import StoredGmk
from mikey_sakke.errors import (
    BadParameters,
    DuplicateKeyId,
    Expired,
    Replayed,
    Revoked,
    UnauthorisedGroup,
    WrongInitiator,
)
from mikey_sakke.group_configuration import REVOCATION, NotifyRequest, UserProfile
from mikey_sakke.identifiers import PURPOSE_GMK
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED

CLOCK_WINDOW_S = 300


class Authority(Enum):
    """The evidence that a GMS may issue keys for a group."""

    PROFILE = "profile"
    """The user profile records this GMS for the group (SEAL-GMK-32)."""
    NAME = "name"
    """The profile, and the PSI of the GMS in the group's name (MC-GMK-20, -21)."""


class Settings(BaseModel):
    """The settings of these checks.

    `strict_status`: a clear bit 1 of Status alone means revoked; by default it does not, as some vendors send 0.
    `window_s`: how far the time of a message may be before or after the own clock, in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strict_status: bool = Field(False, description="a clear status bit alone means that a key is revoked")
    authority: Authority = Field(Authority.PROFILE, description="what shows that a GMS may key a group")
    window_s: Annotated[int, Field(ge=10, le=3600)] = Field(
        CLOCK_WINDOW_S, description="how far the time of a message may be from ours, in seconds"
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What the client knows about a received GMK.

    `held`: the GMK that it holds under the same GMK-ID, if any; `revoked`: the same GMS has revoked that ID; `seen`:
    the same message was accepted before.
    """

    held: StoredGmk | None
    revoked: bool
    seen: bool


class GmkVerdict(Enum):
    """The action for an acceptable message."""

    STORE = "store"
    CONFIRM_AGAIN = "confirm again"
    """The message repeats key material that is stored: a retransmission (Q-22)."""
    REVOKE = "revoke"


def judge(
    received: Any, request: NotifyRequest, profile: UserProfile, known: Known, settings: Settings, now: int
) -> GmkVerdict:
    """Return the verdict on `received` (`i_message.Received`), which came in `request`, at `now` (Unix seconds).

    Raises one of WrongInitiator, BadParameters, DuplicateKeyId, UnauthorisedGroup, Revoked, Expired, Replayed.
    """
    parameters = received.parameters
    if received.purpose != PURPOSE_GMK or parameters is None:
        raise BadParameters("no GMK with its key parameters")
    if received.initiator_uri != request.gms:
        raise WrongInitiator(f"signed by {received.initiator_uri}, notified by {request.gms}")
    same = known.held is not None and (known.held.gmk, known.held.gms) == (received.key, received.initiator_uri)
    if known.held is not None and not same:
        raise DuplicateKeyId(f"GMK-ID {received.key_id.hex()} is in use for another key")
    check_groups(parameters.groups, received.initiator_uri, profile, settings.authority)
    if request.purpose == REVOCATION and parameters.status & STATUS_NOT_REVOKED:
        raise BadParameters("a revocation whose signed status says that the key is not revoked")
    if request.purpose == REVOCATION or parameters.revoked(settings.strict_status):
        return GmkVerdict.REVOKE
    if known.revoked:
        raise Revoked(f"GMK-ID {received.key_id.hex()} was revoked before")
    if parameters.expiry and now >= parameters.expiry:
        raise Expired("the key has expired")
    if same:
        return GmkVerdict.CONFIRM_AGAIN
    if known.seen:
        raise Replayed("the message was accepted before, and its key has been deleted since")
    return GmkVerdict.STORE


def check_groups(groups: list[str], gms: str, profile: UserProfile, authority: Authority) -> None:
    """Raise UnauthorisedGroup unless `gms` may issue keys for each of `groups` (SEAL-GMK-32, MC-GMK-13).

    Raises BadParameters if there is no group.
    """
    if not groups:
        raise BadParameters("the key parameters name no group")
    for group in groups:
        if group not in profile.groups:
            raise UnauthorisedGroup(f"{group} is not in the user's profile")
        if profile.groups[group] != gms:
            raise UnauthorisedGroup(f"the profile records another GMS than {gms} for {group}")
        if authority is Authority.NAME and psi(group) != psi(gms):
            raise UnauthorisedGroup(f"the name {group} does not hold the PSI of {gms}")


def psi(uri: str) -> str:
    """Return the public service identity in a URI: the part after the last @, or after the scheme (MC-GMK-20)."""
    rest = urlsplit(uri).netloc or urlsplit(uri).path
    return rest.rpartition("@")[2].split(";")[0].lower()
