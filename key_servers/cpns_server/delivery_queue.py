"""What to send to one PN GW about one Service Group, and when: a state machine without I/O or clock.

There is one `DeliveryQueue` for each (PN GW, Service Group) and at most one request of it on its way (SEC-27): always
towards the newest position, never through older ones. An inventory goes before the key that was made because of it,
so a PN GW knows who left before it holds anything it must not give the leaver.

`step(delivery, event, now)` returns the next state and the actions to execute; `now` is monotonic, in seconds.
"""

from dataclasses import dataclass, replace
from enum import Enum

from key_servers.cpns_server import tuning


@dataclass(frozen=True, slots=True)
class Position:
    """How far a PN GW is: inventory revision, key version (0 = none), Service Group deleted."""

    revision: int = 0
    version: int = 0
    deleted: bool = False


class Kind(Enum):
    """The request that leads one step on."""

    INVENTORY = "inventory"
    KEY = "key"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Send:
    """Action: send the request `kind`, which takes the PN GW to `reached`; report exactly once how it ended.

    If it has to wait before it goes out, say Departs then, and send what is on its way after that.
    """

    kind: Kind
    reached: Position


@dataclass(frozen=True, slots=True)
class Record:
    """Action: store that the PN GW is at `accepted`, before anything else is done."""

    accepted: Position


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """Action: tell a person that `failures` requests in a row came to nothing."""

    failures: int


@dataclass(frozen=True, slots=True)
class ClearAlarm:
    """Action: the alarm is over."""


Action = Send | Record | RaiseAlarm | ClearAlarm


@dataclass(frozen=True, slots=True)
class Wanted:
    """Event: the Server's store changed; the PN GW should come to `position`."""

    position: Position


@dataclass(frozen=True, slots=True)
class Accepted:
    """Event: the PN GW took the request on its way."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Event: the request on its way was refused (`refused`), or nothing came back."""

    refused: bool


@dataclass(frozen=True, slots=True)
class Unsent:
    """Event: the request on its way could not go out, through no fault of the PN GW: it says nothing about it."""


@dataclass(frozen=True, slots=True)
class Departs:
    """Event: the request on its way goes out only now, so it becomes the newest one: none if nothing is to be sent."""


@dataclass(frozen=True, slots=True)
class GatewayHeard:
    """Event: the PN GW spoke, so it is there again (a hint, SEC-27)."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """Event: the PN GW lost its store back to `position`; it must be told again from there."""

    position: Position


@dataclass(frozen=True, slots=True)
class Tick:
    """Event: time went on."""


Event = Wanted | Accepted | Failed | Unsent | Departs | GatewayHeard | Rewound | Tick


@dataclass(frozen=True, slots=True)
class DeliveryQueue:
    """State. `due` is when the next request may go (monotonic seconds); `on_its_way` is the one not answered yet."""

    wanted: Position = Position()
    accepted: Position = Position()
    on_its_way: Send | None = None
    failures: int = 0
    last_refused: bool = False
    due: float = 0.0
    rewound: bool = False

    @property
    def settled(self) -> bool:
        """The PN GW has everything it should have."""
        return _next_request(self) is None

    @property
    def wake_at(self) -> float | None:
        """When a Tick would do something; None when only an event can."""
        return None if self.on_its_way or self.settled else self.due

    @property
    def name(self) -> str:
        """The state in one word: settled, sending, waiting or failing."""
        if self.on_its_way:
            return "sending"
        if self.settled:
            return "settled"
        return "failing" if self.failures >= tuning.FAILURES_UNTIL_ALARM else "waiting"


def step(state: DeliveryQueue, event: Event, now: float) -> tuple[DeliveryQueue, list[Action]]:
    """Take one event. Raises ValueError for an answer when nothing is on its way: a fault of the caller."""
    if isinstance(event, Wanted):
        if event.position != state.wanted:
            # What failed before is no longer what is sent, so it does not wait for that failure's back-off.
            state = replace(state, wanted=event.position, due=min(state.due, now))
        return _send_if_due(state, [], now)
    if isinstance(event, Accepted):
        return _accepted(state, now)
    if isinstance(event, Failed):
        return _failed(state, event.refused, now)
    if isinstance(event, Unsent):
        _take_request(state)
        return replace(state, on_its_way=None, rewound=False, due=now + tuning.RETRY_MIN_S), []
    if isinstance(event, Departs):
        _take_request(state)
        # What goes out after a loss is no answer from before it.
        return replace(state, on_its_way=_next_request(state), rewound=False), []
    if isinstance(event, GatewayHeard):
        # Who refused will refuse again: only silence is ended by a word.
        if state.failures and not state.last_refused:
            state = replace(state, due=min(state.due, now))
        return _send_if_due(state, [], now)
    if isinstance(event, Rewound):
        return _rewound(state, event.position, now)
    return _send_if_due(state, [], now)


def _accepted(state: DeliveryQueue, now: float) -> tuple[DeliveryQueue, list[Action]]:
    sent = _take_request(state)
    alarmed = state.failures >= tuning.FAILURES_UNTIL_ALARM
    after = replace(state, on_its_way=None, failures=0, last_refused=False, due=now, rewound=False)
    if state.rewound:
        # Answered before or after the loss? Not knowable: it is sent again.
        return _send_if_due(after, [ClearAlarm()] if alarmed else [], now)
    actions: list[Action] = [Record(sent.reached)]
    if alarmed:
        actions.append(ClearAlarm())
    return _send_if_due(replace(after, accepted=sent.reached), actions, now)


def _failed(state: DeliveryQueue, refused: bool, now: float) -> tuple[DeliveryQueue, list[Action]]:
    failed = _take_request(state)
    idle = replace(state, on_its_way=None, rewound=False)
    if _next_request(idle) not in (failed, None):
        # Overtaken while on its way (a list that is refused as stale): the newest says nothing about the way there.
        return _send_if_due(replace(idle, due=min(idle.due, now)), [], now)
    failures = state.failures + 1
    after = replace(idle, failures=failures, last_refused=refused, due=now + back_off(failures))
    actions: list[Action] = [RaiseAlarm(failures)] if failures == tuning.FAILURES_UNTIL_ALARM else []
    return after, actions


def _rewound(state: DeliveryQueue, position: Position, now: float) -> tuple[DeliveryQueue, list[Action]]:
    back = Position(
        revision=min(state.accepted.revision, position.revision),
        version=min(state.accepted.version, position.version),
        deleted=state.accepted.deleted and position.deleted,
    )
    if back == state.accepted:
        return _send_if_due(state, [], now)
    after = replace(state, accepted=back, rewound=state.on_its_way is not None)
    return _send_if_due(after, [Record(back)], now)


def back_off(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, with an upper limit."""
    doublings = min(failures - 1, 30)  # 2**30 times the minimum is far beyond the maximum
    return min(tuning.RETRY_MIN_S * float(1 << doublings), tuning.RETRY_MAX_S)


def _take_request(state: DeliveryQueue) -> Send:
    if state.on_its_way is None:
        raise ValueError("an answer while nothing is on its way")
    return state.on_its_way


def _send_if_due(state: DeliveryQueue, actions: list[Action], now: float) -> tuple[DeliveryQueue, list[Action]]:
    if state.on_its_way is not None or now < state.due:
        return state, actions
    request = _next_request(state)
    if request is None:
        return state, actions
    return replace(state, on_its_way=request), [*actions, request]


def _next_request(state: DeliveryQueue) -> Send | None:
    wanted, accepted = state.wanted, state.accepted
    if wanted.deleted:
        return None if accepted.deleted else Send(Kind.DELETE, wanted)
    if accepted.revision < wanted.revision:  # first who left, then what they must not get (SEC-06)
        return Send(Kind.INVENTORY, Position(wanted.revision, accepted.version, False))
    if accepted.version < wanted.version:
        return Send(Kind.KEY, Position(accepted.revision, wanted.version, False))
    return None
