"""What commands of operators take over the REST interface, as pydantic models. Its document is made from them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

import cpns.tuning
from key_servers.cpns_server import tuning

PAGE_MAX = 1000  # entries of the audit log in one answer
LIST_MAX = 2048  # names in one request


def _whole(value: Any) -> Any:
    """Return 60 for 60.0, which JSON counts as an integer, and everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Name = Annotated[str, Field(min_length=1, max_length=cpns.tuning.ENTITY_ID_MAX, description="at most 64 octets")]
Hex = Annotated[str, Field(pattern="^([0-9a-fA-F]{2})+$", max_length=1024, description="hexadecimal digits")]
Period = Annotated[
    int,
    Field(
        ge=0,
        le=tuning.PERIOD_MAX_S,
        description=f"seconds between updates of the key by themselves, 0 = none, else at least {tuning.PERIOD_MIN_S}",
    ),
    BeforeValidator(_whole),
]
RekeyOnJoin = Annotated[bool, Field(description="a newcomer cannot read the past")]
Batching = Annotated[
    float,
    Field(ge=0, le=tuning.BATCHING_MAX_S, description="joins and leaves within this many seconds make one update"),
]


class RequestBody(BaseModel):
    """The base of all bodies: JSON types as they are, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewGroup(RequestBody):
    """A new Service Group. What is left out is as the Server is configured, or as the name had it before."""

    sg_id: Name
    open_to: list[Name] = Field(default=[], max_length=LIST_MAX, description="PNs whose boards may join")
    policy: Literal["open", "listed"] | None = None
    protection: Literal["sealed", "authenticated"] | None = None
    trust: Literal["gateway", "end-to-end"] | None = None
    rekey_on_join: RekeyOnJoin | None = None
    period_s: Period | None = None


class NewPolicy(RequestBody):
    """The policies of a Service Group that change; those left out stay."""

    period_s: Period | None = None
    rekey_on_join: RekeyOnJoin | None = None
    batching_s: Batching | None = None


class NewGateway(RequestBody):
    """A PN GW that serves a PN. `is_open`: each board that it lets in belongs to the PN; left out: as before."""

    gateway_id: Name
    pn_id: Name
    credential: Hex
    is_open: bool | None = None
    form: Literal["xml", "cbor"] | None = Field(default=None, description="of its messages; new ones get XML")
    replace: bool = Field(default=False, description="end the identity that the PN GW has")


class Successor(RequestBody):
    """The PN GW that takes over the PN of another one."""

    new_gateway_id: Name
    credential: Hex


class NewPne(RequestBody):
    """A PNE that may speak through the PN GW of a PN; for end-to-end groups with its credential or key."""

    pne_id: Name
    pn_id: Name
    credential: Hex | None = None
    entity_user_key: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$", description="hexadecimal digits")] | None = None
    replace: bool = Field(default=False, description="end what another board of this name had")


class NewPlace(RequestBody):
    """The PN to which a PNE moves."""

    pn_id: Name


class KindOfAlarm(RequestBody):
    """The alarms that are dismissed: those of a kind, or of them those of one PN GW or Service Group."""

    kind: Name
    gateway_id: str = Field(default="", max_length=cpns.tuning.ENTITY_ID_MAX)
    sg_id: str = Field(default="", max_length=cpns.tuning.ENTITY_ID_MAX)


class ConfirmedMembers(RequestBody):
    """The members of a restored group that are members no more."""

    expel: list[Name] = Field(default=[], max_length=LIST_MAX)


class OlderCopy(RequestBody):
    """How many epochs the versions of all groups jump: 2 or more for a copy that was put back before."""

    epochs: Annotated[int, Field(ge=1, le=cpns.tuning.EPOCH_JUMP_MAX), BeforeValidator(_whole)] = 1


class Page(BaseModel):
    """A part of the audit log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX, description="entries at most")] = 100
    before: Annotated[int, Field(ge=0, le=2**63 - 1, description="only entries of lower numbers; 0: the newest")] = 0
