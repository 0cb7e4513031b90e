"""What a gateway shows of itself at one moment: frozen values without a secret, for page, MQTT, metrics and commands.

Times are Unix seconds, 0 for never or not known. Texts are "" for nothing. Names are as persons chose them: the code
that shows them escapes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway_agent.updates.status import BoardStatus


@dataclass(frozen=True, slots=True)
class MemberView:
    """The evidence about one board in one Service Group.

    `state`: where the delivery of the newest key stands for this board: "pending", "sent", "confirmed", "unreachable",
    or "" for none; for an end-to-end group the stage of its wrapped key. `version`: the newest version that the board
    has confirmed, 0 for none that is known; `link`, `tries` and `confirmed_at`: by which link that one came (a word of
    `cpns.delivery_report`), how often it was sent, and when it was confirmed.
    """

    sg_id: str
    pne_id: str
    state: str
    version: int
    version_text: str
    link: str
    tries: int
    confirmed_at: int
    returned: str = ""
    """What the board has answered to a wrapped key, "" for nothing or if the group is not end-to-end."""


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """The delivery of one version. `phase`: "waiting", "running", "finished" or "superseded".

    `began_at`: it was sent first; `ended_at`: no board was open any more, the first time. `members`: how many boards it
    is for; `by_broadcast`: how many of the `confirmed` ones got it by broadcast.
    """

    version: int
    version_text: str
    phase: str
    arrived_at: int
    began_at: int
    ended_at: int
    members: int
    confirmed: int
    unreachable: int
    by_broadcast: int


@dataclass(frozen=True, slots=True)
class CarriedView:
    """A wrapped key of an end-to-end group that this gateway carries to one board since its start."""

    pne_id: str
    version: int
    version_text: str
    state: str
    try_count: int
    returned: str
    changed_at: int


@dataclass(frozen=True, slots=True)
class ServiceGroupView:
    """A Service Group. `trust`: "gateway" or "end-to-end".

    `key_made_at`: when the newest key came to this gateway; `confirmed`: how many members have confirmed that key;
    `states`: how many boards are in each state of the newest delivery; `exposed`: a board that is no member knows the
    key; `waiting`: nothing goes out before a new key; neither is said of a group without members here, which gets no
    key before a board joins. `held`: the CPNS Server waits until a person confirms the members. `deliveries`: newest
    first.
    """

    sg_id: str
    version: int
    version_text: str
    trust: str
    key_made_at: int
    confirmed: int
    members: tuple[MemberView, ...]
    states: tuple[tuple[str, int], ...]
    exposed: bool
    waiting: bool
    held: bool
    deliveries: tuple[DeliveryView, ...]
    carried: tuple[CarriedView, ...]


@dataclass(frozen=True, slots=True)
class BoardView:
    """A board that is let in. `session`: there is a session with it; `held`: its joins and leaves wait for a person.

    `heard_at`, `age_s`, `heard_link` and `address`: when it was heard last (only messages that have verified count),
    how many seconds ago (None for never), on which link and from where. `software`: the version of its agent as it
    says. `update`: how far it is with updates, None if it has said nothing about them.
    """

    pne_id: str
    session: bool
    heard_at: int
    age_s: float | None
    heard_link: str
    address: str
    software: str
    held: bool
    memberships: tuple[MemberView, ...]
    update: BoardStatus | None = None


@dataclass(frozen=True, slots=True)
class NetworkView:
    """One network that keys are broadcast on, with counts since the start; the fields are as in `medium.Health`."""

    interface: str
    broadcast: str
    sent: int
    failed: int
    problem: str
    is_refused: bool
    deaf: str


@dataclass(frozen=True, slots=True)
class BrokerView:
    """One MQTT broker on the way to a CPNS Server elsewhere: connected or not, since when, and what is wrong."""

    url: str
    connected: bool
    since: int
    problem: str


@dataclass(frozen=True, slots=True)
class AlarmView:
    """An alarm of this gateway or of the CPNS Server in it. `text` says what is wrong and what to do.

    `count` is above 1 where the Server tells many alarms of one kind together; `pne_id` is of its alarms only.
    """

    kind: str
    gateway_id: str
    sg_id: str
    since: int
    text: str
    count: int = 1
    pne_id: str = ""


@dataclass(frozen=True, slots=True)
class UplinkView:
    """The way to the CPNS Server. `kind`: "embedded" if it is in this process, which is always up.

    `age_s`: seconds since it has answered last, None for never since the start; `problem`: why it does not answer now.
    """

    kind: str
    server_id: str
    up: bool
    age_s: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class PairingView:
    """The pairing window that is open, for the board `pne_id`, until the time `until` at the latest."""

    pne_id: str
    until: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole gateway at the time `at`. `version`: of keycast; `event_number`: of the newest event that is in it.

    `stopped`: why broadcasts and pulls are stopped (SEC-02); `withholds_keys`: no key is given out until the CPNS
    Server answers (SEC-28). `commits`: synced writes since the start, which wear SD cards. `backed_up_at`: when the
    last backup was made, 0 if none is known of.
    """

    at: int
    event_number: int
    version: str
    started_at: int
    gateway_id: str
    pn_id: str
    pn_alias: int
    uplink: UplinkView
    brokers: tuple[BrokerView, ...]
    addresses: tuple[str, ...]
    networks: tuple[NetworkView, ...]
    stopped: str
    withholds_keys: bool
    held: tuple[str, ...]
    """SG IDs of the groups that the CPNS Server in this process holds, those that have no member here included."""
    groups: tuple[ServiceGroupView, ...]
    boards: tuple[BoardView, ...]
    alarms: tuple[AlarmView, ...]
    pairing: PairingView | None
    counters: Mapping[str, int]
    commits: int
    backed_up_at: int

    def group(self, sg_id: str) -> ServiceGroupView | None:
        """Return one Service Group, None for none of this name."""
        return next((each for each in self.groups if each.sg_id == sg_id), None)

    def board(self, pne_id: str) -> BoardView | None:
        """Return one board, None for none of this name."""
        return next((each for each in self.boards if each.pne_id == pne_id), None)
