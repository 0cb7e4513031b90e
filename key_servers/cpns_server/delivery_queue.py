"""Decides what is sent to one receiver about one Service Group, and when: a state machine without I/O or clock.

A receiver is a PN GW or, in an end-to-end group, a PNE, whose positions have a version only. There is one
`DeliveryQueue` for each (receiver, Service Group) and at most one request of it on its way (SEC-27): always towards the
newest position, never through older ones. An inventory goes before the key that was made because of it, so a PN GW
knows who left before it holds anything it must not give the leaver.

`step(delivery, event, now)` returns the next state and the actions to execute; `now` is monotonic, in seconds.
"""

from dataclasses import dataclass, replace
from enum import Enum

from key_servers.cpns_server import tuning


@dataclass(frozen=True, slots=True)
class Position:
    """The state of a receiver for one group: inventory revision, key version (0 = none), whether the Service Group is
    deleted."""

    revision: int = 0
    version: int = 0
    deleted: bool = False


class Kind(Enum):
    """The kind of request that leads one step on."""

    INVENTORY = "inventory"
    KEY = "key"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Send:
    """Action: send the request `kind`, which takes the receiver to `reached`, and report exactly once how it ended.

    If the request has to wait before it goes out, report Departs when it goes, and send the one that is then on its
    way.
    """

    kind: Kind
    reached: Position


@dataclass(frozen=True, slots=True)
class Record:
    """Action: store that the receiver is at `accepted`, before anything else is done."""

    accepted: Position


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """Action: tell a person that `failures` requests in a row failed."""

    failures: int


@dataclass(frozen=True, slots=True)
class ClearAlarm:
    """Action: end the alarm."""


Action = Send | Record | RaiseAlarm | ClearAlarm


@dataclass(frozen=True, slots=True)
class Wanted:
    """Event: the Server's store changed; the receiver should come to `position`."""

    position: Position


@dataclass(frozen=True, slots=True)
class Accepted:
    """Event: the receiver accepted the request that is on its way."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Event: the receiver proved to be at `position`, however long ago it was asked.

    It counts for the request on its way or, with none on its way, for the wanted position.
    """

    position: Position


@dataclass(frozen=True, slots=True)
class Failed:
    """Event: the request on its way was refused (`refused`), or no answer came."""

    refused: bool


@dataclass(frozen=True, slots=True)
class Unsent:
    """Event: the request came to nothing through no fault of the receiver, so nothing is known about the receiver."""


@dataclass(frozen=True, slots=True)
class Departs:
    """Event: the request on its way goes out only now, so the newest one takes its place, or none if nothing is to
    be sent."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Event: there is a reason to send at once what still waits, even after a refusal: the receiver asked for it, or
    has got what it lacked."""


@dataclass(frozen=True, slots=True)
class GatewayHeard:
    """Event: the PN GW sent something, so it can be reached again (a hint, SEC-27)."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """Event: the receiver lost its store back to `position`; everything from there is sent again."""

    position: Position


@dataclass(frozen=True, slots=True)
class Tick:
    """Event: time has passed."""


Event = Wanted | Accepted | Confirmed | Failed | Unsent | Departs | Asked | GatewayHeard | Rewound | Tick


@dataclass(frozen=True, slots=True)
class DeliveryQueue:
    """The state.

    `due` is when the next request may go (monotonic seconds), `on_its_way` the one without answer so far.
    """

    wanted: Position = Position()
    accepted: Position = Position()
    on_its_way: Send | None = None
    failures: int = 0
    last_refused: bool = False
    due: float = 0.0
    rewound: bool = False

    @property
    def settled(self) -> bool:
        """True if the receiver has everything that it should have."""
        return _next_request(self) is None

    @property
    def wake_at(self) -> float | None:
        """The monotonic seconds at which a Tick would do something; None if only another event can."""
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
    """Return the next state and the actions for one event.

    Raise ValueError for an answer when nothing is on its way, a fault of the caller.
    """
    if isinstance(event, Wanted):
        if event.position != state.wanted:
            # The next request is not the one that failed, so it does not wait for that failure's back-off.
            state = replace(state, wanted=event.position, due=min(state.due, now))
        return _send_if_due(state, [], now)
    if isinstance(event, Accepted):
        return _accepted(state, _take_request(state).reached, now)
    if isinstance(event, Confirmed):
        return _confirmed(state, event.position, now)
    if isinstance(event, Failed):
        return _failed(state, event.refused, now)
    if isinstance(event, Unsent):
        _take_request(state)
        return replace(state, on_its_way=None, rewound=False, due=now + tuning.RETRY_MIN_S), []
    if isinstance(event, Departs):
        _take_request(state)
        # A request that goes out after the loss is about the state after it.
        return replace(state, on_its_way=_next_request(state), rewound=False), []
    if isinstance(event, Asked):
        return _send_if_due(replace(state, due=min(state.due, now)), [], now)
    if isinstance(event, GatewayHeard):
        # A PN GW that refused will refuse again: to be heard ends silence only.
        if state.failures and not state.last_refused:
            state = replace(state, due=min(state.due, now))
        return _send_if_due(state, [], now)
    if isinstance(event, Rewound):
        return _rewound(state, event.position, now)
    return _send_if_due(state, [], now)


def _accepted(state: DeliveryQueue, reached: Position, now: float) -> tuple[DeliveryQueue, list[Action]]:
    alarmed = state.failures >= tuning.FAILURES_UNTIL_ALARM
    after = replace(state, on_its_way=None, failures=0, last_refused=False, due=now, rewound=False)
    if state.rewound:
        # It is unknown whether it was answered before the loss or after it: it is sent again.
        return _send_if_due(after, [ClearAlarm()] if alarmed else [], now)
    actions: list[Action] = [Record(reached)]
    if alarmed:
        actions.append(ClearAlarm())
    return _send_if_due(replace(after, accepted=reached), actions, now)


def _confirmed(state: DeliveryQueue, position: Position, now: float) -> tuple[DeliveryQueue, list[Action]]:
    awaited = state.wanted if state.on_its_way is None else state.on_its_way.reached
    if position != awaited or position == state.accepted:
        return state, []
    return _accepted(state, position, now)


def _failed(state: DeliveryQueue, refused: bool, now: float) -> tuple[DeliveryQueue, list[Action]]:
    failed = _take_request(state)
    idle = replace(state, on_its_way=None, rewound=False)
    if _next_request(idle) not in (failed, None):
        # It was overtaken on its way (and a stale list refused): this says nothing about the newest request.
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
    if (
        accepted.revision < wanted.revision
    ):  # first the list without those who left, then the key that they must not get (SEC-06)
        return Send(Kind.INVENTORY, Position(wanted.revision, accepted.version, False))
    if accepted.version < wanted.version:
        return Send(Kind.KEY, Position(accepted.revision, wanted.version, False))
    return None
