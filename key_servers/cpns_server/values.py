"""The values that the Server's parts pass to each other and that operators see: frozen, without keys.

All of them can be turned into JSON by `dataclasses.asdict`.
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of the clocks: `monotonic` in seconds since some start, `unix` in seconds since 1970."""

    monotonic: float
    unix: int


class GroupState(StrEnum):
    """`held`: the group was restored and waits for a person to confirm the members (SEC-03). `deleted`: only the
    floors are left.
    """

    ACTIVE = "active"
    HELD = "held"
    DELETED = "deleted"


class JoinPolicy(StrEnum):
    """Which PNEs may join: every PNE of the PNs that a group is open to, or only PNEs that a person permitted."""

    OPEN = "open"
    LISTED = "listed"


class GroupTrust(StrEnum):
    """Which path the keys of a Service Group take: through PN GWs that know them, or past PN GWs that cannot read them
    (SEC-26).
    """

    GATEWAY = "gateway"
    END_TO_END = "end-to-end"


class MemberState(StrEnum):
    """The relation of a PNE to a Service Group; a PNE without a record never was in it."""

    PERMITTED = "permitted"
    MEMBER = "member"
    LEFT = "left"
    EXPELLED = "expelled"


@dataclass(frozen=True, slots=True)
class StoredGateway:
    """A registered PN GW. `blocked`: it was stolen or replaced; nothing is accepted from it or sent to it.

    `is_open`: each PNE that comes through it belongs to its PN; otherwise an operator admits each one first (SEC-16).
    """

    gateway_id: str
    pn_id: str
    form: str
    blocked: bool
    is_open: bool


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A Service Group. `owner` is a PNE ID, or "" when an operator made it; `version` is the last one issued.

    `pending` is the reason (`cpns.numbers.REASON_*`) of an update that is due, or None. `trust` never changes under one
    SG ID, even when the group is deleted and made again. `batching_s` is None where the Server's setting holds.
    """

    sg_id: str
    owner: str
    state: GroupState
    policy: JoinPolicy
    protection: int
    rekey_on_join: bool
    period_s: int
    version: int
    pending: int | None
    key_made_at: int
    trust: GroupTrust = GroupTrust.GATEWAY
    batching_s: float | None = None


@dataclass(frozen=True, slots=True)
class StoredEntityUserKey:
    """The Entity User Keys of one PNE (SEC-25), 16 octets each; they never show in a repr.

    `previous` is the one before `current`, or None. `provisioned`: a person has set it, no session made it.
    """

    current: bytes = field(repr=False)
    previous: bytes | None = field(repr=False)
    provisioned: bool


@dataclass(frozen=True, slots=True)
class PnePosition:
    """How far a PNE is in an end-to-end group: the version it has proved to have (0 = none), the requests which that
    took, when it proved it (Unix seconds, 0 = never), and its last Return ("" = none).
    """

    version: int = 0
    tries: int = 0
    confirmed_at: int = 0
    last_return: str = ""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A Group Key as it is delivered. `activation` in Unix seconds, 0 = when stored. The key never shows in a repr."""

    sg_id: str
    version: int
    key: bytes = field(repr=False)
    activation: int
    reason: int


@dataclass(frozen=True, slots=True)
class StoredMember:
    """One PNE's relation to one Service Group. `pn_id` is "" until it spoke through a PN GW.

    `report` is the last outcome its PN GW reported, after the key was sent `tries` times. `confirmed` is the highest
    version reported as confirmed, which came to the PNE on `link` (a word of `cpns.delivery_report`, "" = not told) at
    `confirmed_at` (Unix seconds, 0 = not told). In an end-to-end group all of this is by the PNE's own proof, which
    counts as a report; there the PN GW can only change `report`, and `tries` of a PNE that it did not reach.
    """

    pne_id: str
    pn_id: str
    state: MemberState
    since: int
    confirmed: int
    report: str
    link: str
    tries: int
    confirmed_at: int


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What a PN GW reports of the delivery of a version to one PNE: `outcome` is confirmed, unreachable or excluded.

    The other parts are as in `StoredMember`; a PN GW of an earlier release does not tell them.
    """

    pne_id: str
    outcome: str
    link: str = ""
    tries: int = 0
    confirmed_at: int = 0


@dataclass(frozen=True, slots=True)
class GatewayDelivery:
    """The delivery of a Service Group to one PN GW: what it should have, and what it said it has."""

    gateway_id: str
    pn_id: str
    state: str
    wanted_revision: int
    accepted_revision: int
    wanted_version: int
    accepted_version: int
    failures: int


@dataclass(frozen=True, slots=True)
class PneDelivery:
    """The delivery of an end-to-end group's key to one member, `way` end-to-end: the version it should have, and the
    one that it proved to have (`confirmed_at` in Unix seconds, after `tries` requests).

    `state` is one word of `DeliveryQueue.name`, or "keyless" (it has no Entity User Key), "blocked" (no PN GW serves
    its PN). While it lacks the wanted version `tries` counts the requests so far. `returned` is its last Return, "" for
    none.
    """

    pne_id: str
    pn_id: str
    way: str
    state: str
    wanted_version: int
    accepted_version: int
    confirmed_at: int
    tries: int
    returned: str
    failures: int


@dataclass(frozen=True, slots=True)
class GroupDeliveries:
    """The deliveries of one Service Group, to PN GWs and, of an end-to-end group, to its members."""

    deliveries: tuple[GatewayDelivery, ...]
    pne_deliveries: tuple[PneDelivery, ...]


@dataclass(frozen=True, slots=True)
class PnePlace:
    """The PN to which a PNE belongs."""

    pne_id: str
    pn_id: str


@dataclass(frozen=True, slots=True)
class GroupView:
    """Everything an operator may see of a Service Group: never a key. `protection` is sealed or authenticated,
    `trust` gateway or end-to-end, `batching_s` None where the Server's setting holds. `pne_deliveries` are those of an
    end-to-end group.
    """

    sg_id: str
    owner: str
    state: str
    policy: str
    trust: str
    protection: str
    rekey_on_join: bool
    period_s: int
    batching_s: float | None
    version: int
    version_text: str
    update_pending: bool
    key_made_at: int
    members: tuple[StoredMember, ...]
    open_to: tuple[str, ...]
    deliveries: tuple[GatewayDelivery, ...]
    pne_deliveries: tuple[PneDelivery, ...]


@dataclass(frozen=True, slots=True)
class ServerAlarm:
    """A state that a person should look at. `since` is in Unix seconds; `text` says what it is and what to do.

    `count` is above 1 where many alarms of one kind are told together: PN GW, Service Group and PNE are "" then.
    """

    kind: str
    gateway_id: str
    sg_id: str
    since: int
    text: str
    count: int = 1
    pne_id: str = ""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """One MQTT broker: whether it is connected, since when (Unix seconds, 0 = the clock was not set), what is wrong.

    `problem` is a sentence with the next step, "" if nothing is known to be wrong.
    """

    url: str
    connected: bool
    since: int
    problem: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What one process of a CPNS Server is reached by, how much it serves, and what is wrong.

    `listen`: the places of its links; `database`: SQLite or PostgreSQL; `shards`: for how many of the 64 parts of the
    PN GWs this process works now; `processes`: how many share them. The two counts are None while the store cannot be
    read.
    """

    server_id: str
    listen: tuple[str, ...]
    brokers: tuple[BrokerStatus, ...]
    database: str
    shards: int
    processes: int
    gateway_count: int | None
    group_count: int | None
    alarms: tuple[ServerAlarm, ...]
    counters: dict[str, int]
