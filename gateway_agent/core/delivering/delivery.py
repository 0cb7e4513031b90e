"""One delivery of one Group Key to the member PNEs of a Service Group in this PN, as a pure state machine.

`step(delivery, event, now, pacing)` returns the next state and the actions to execute, in order; stores come before
sends. `now` is monotonic seconds. There is no I/O, clock or randomness in here, and no keys, octets or radios:
`StartAiring` and `StopAiring` say for which PNEs the key is to be on the air. The module that executes them makes the
object from the store at that moment, and the media decide how often it is repeated.

Each PNE is in exactly one state. EXCLUDED is final: no action names such a PNE again, and an airing that it could read
is stopped in the same step. PNEs with a GKDK are reached by broadcast until few of them miss the key, then by unicast.
The others are reached by unicast from the start (Q-19, Q-20).
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf


class PneState(StrEnum):
    """The state of one PNE in a delivery."""

    PENDING = "pending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    UNREACHABLE = "unreachable"
    EXCLUDED = "excluded"


class Phase(StrEnum):
    """The phase of a delivery. FINISHED: every PNE is confirmed, unreachable or excluded."""

    NEW = "new"
    RUNNING = "running"
    FINISHED = "finished"
    SUPERSEDED = "superseded"


class Way(StrEnum):
    """The way on which a key is sent to a PNE."""

    BROADCAST = "broadcast"
    UNICAST = "unicast"


OPEN = frozenset((PneState.PENDING, PneState.SENT))
BY_BROADCAST = frozenset((Way.BROADCAST,))
BY_UNICAST = frozenset((Way.UNICAST,))
Ways = frozenset[Way]


@dataclass(frozen=True, slots=True)
class Pacing:
    """The waiting times and limits of deliveries. Times are in seconds."""

    confirmation_cost_s: float
    """Time of the PN GW for one confirmation. n members spread their confirmations over n times this, their leisure."""
    answer_s: float = 1.0
    """Time that a board needs to open, verify and store the key before its leisure begins."""
    first_answer: float = 2.5
    """Factor of `answer_s` if a board may verify its first signature since its start, for which it must compute the
    table of the signing key. Published ESP32 firmware confirmed a first key 0.9 to 2.3 s after the broadcast. A board
    that is sent a unicast before it has confirmed stores and answers twice."""
    backoff: float = 1.5
    wait_max_s: float = 60.0
    rounds_max: int = 8
    """Airings of one delivery at most."""
    comeback_s: float = 300.0
    """Least time between further airings, above `rounds_max`, that a medium that comes back begins. A medium may come
    back and refuse for hours, and the key must be aired when it works."""
    straggler_share: float = 0.05
    straggler_limit: int = 3
    """Unicast replaces broadcast when fewer PNEs than the share, or at most the limit, miss the key."""
    unicast_retry_s: float = 5.0
    failures_max: int = 3
    """Unicast failures in a row that make a PNE unreachable (Q-17)."""

    def wait_s(self, recipients: int, rounds: int, first: bool = False) -> float:
        """Return how many seconds to wait for confirmations of `recipients` PNEs after airing number `rounds` (from 1).

        `first`: a PNE that misses the key may be verifying its first signature since its start. The wait is never
        shorter than the confirmations take, as otherwise the key would be repeated to PNEs that are about to confirm.
        """
        needed = self.answer_s * (self.first_answer if first else 1.0) + recipients * self.confirmation_cost_s
        return max(needed, min(needed * self.backoff ** (rounds - 1), self.wait_max_s))


@dataclass(frozen=True, slots=True)
class Recipient:
    """One PNE and the ways on which the key is sent to it now.

    It has both ways if a medium came back while a unicast was under way. `first`: the PNE has confirmed no broadcast
    since its start; `retry_at`: when unicast is tried again; `pulled`: it was sent the key in the answer to a pull;
    `tries`: how often it was sent the key since the start, by unicast, by an airing or by that answer.
    """

    state: PneState = PneState.PENDING
    ways: Ways = BY_UNICAST
    first: bool = False
    failures: int = 0
    retry_at: float = inf
    pulled: bool = False
    tries: int = 0

    @property
    def is_asked(self) -> bool:
        """True while a unicast to the PNE is queued or under way."""
        return self.state is PneState.SENT and Way.UNICAST in self.ways

    @property
    def listens(self) -> bool:
        """True while the PNE misses the key and broadcast is one of its ways."""
        return self.state in OPEN and Way.BROADCAST in self.ways


@dataclass(frozen=True, slots=True)
class Delivery:
    """The state of one delivery. `rounds` counts the airings, `open` the recipients that are pending or sent.

    `airing`: the PNEs for which the key is on the air, empty when it is not. `back_at`: when a medium that
    came back began an airing last.
    """

    sg_id: str
    version: int
    recipients: Mapping[str, Recipient]
    phase: Phase = Phase.NEW
    rounds: int = 0
    next_round_at: float = inf
    open: int = 0
    airing: frozenset[str] = frozenset()
    back_at: float = -inf


def new_delivery(sg_id: str, version: int, ways: Mapping[str, Ways], first: Container[str] = frozenset()) -> Delivery:
    """Return a delivery that has not started.

    `ways`: PNE ID -> the ways to begin with; `first`: the PNEs for which `Recipient.first` is True.
    """
    recipients = {pne_id: Recipient(ways=of, first=pne_id in first) for pne_id, of in ways.items()}
    return Delivery(sg_id, version, recipients, open=len(recipients))


def restored_delivery(sg_id: str, version: int, ways: Mapping[str, Ways], states: Mapping[str, str]) -> Delivery:
    """Return a delivery as it was stored before a restart; if it is running the event `Restarted` continues it.

    `ways` as in `new_delivery`, BY_UNICAST for PNEs that are not in it; `states`: PNE ID -> stored state.
    """
    recipients = {pne_id: Recipient(PneState(state), ways.get(pne_id, BY_UNICAST)) for pne_id, state in states.items()}
    still_open = sum(recipient.state in OPEN for recipient in recipients.values())
    return Delivery(sg_id, version, recipients, Phase.RUNNING if still_open else Phase.FINISHED, open=still_open)


@dataclass(frozen=True, slots=True)
class Started:
    """The delivery begins."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The process was restarted: nothing is under way any more."""


@dataclass(frozen=True, slots=True)
class UnicastAnswered:
    """These PNEs answered that they hold the key."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewcomersConfirmed:
    """PNEs that have joined since the delivery began hold the key: `tries` has how often each was sent it by a pull."""

    tries: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UnicastFailed:
    """Unicast to these PNEs has failed: there was no session, no answer, or a refusal."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class BroadcastConfirmed:
    """These PNEs hold the key: they have proved it, or have said so over their session."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pulled:
    """The PNE was sent the key in the answer to a pull; it has not confirmed it yet (SEC-14)."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class BroadcastRefused:
    """The PNE has received the broadcast and could not use it."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class Aired:
    """The airing has ended: every medium has sent the object as often as it requires."""


@dataclass(frozen=True, slots=True)
class BroadcastUnavailable:
    """No medium has sent the object (CPNS-GKM-12), so unicast replaces broadcast."""


@dataclass(frozen=True, slots=True)
class MediumBack:
    """A medium that was down can send again; broadcast may reach these PNEs now."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class MembersRemoved:
    """These PNEs are not members any more (SEC-06)."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """The time of the last SetTimer has come."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The delivery ends, because there is a newer version or the group was deleted."""


Event = (
    Started
    | Restarted
    | UnicastAnswered
    | UnicastFailed
    | BroadcastConfirmed
    | NewcomersConfirmed
    | Pulled
    | BroadcastRefused
    | Aired
    | BroadcastUnavailable
    | MediumBack
    | MembersRemoved
    | TimerExpired
    | Superseded
)


@dataclass(frozen=True, slots=True)
class Save:
    """Store these states and the phase before the later actions are executed."""

    states: Mapping[str, PneState]
    phase: Phase


@dataclass(frozen=True, slots=True)
class CancelUnicast:
    """Cancel the unicasts to these PNEs that are queued or under way."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class SendUnicast:
    """Send the key over the PNE's session. The event UnicastAnswered or UnicastFailed must follow."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class StopAiring:
    """End the airing before this action returns: its object must not be sent any more (SEC-06, SEC-38)."""


@dataclass(frozen=True, slots=True)
class StartAiring:
    """Air the key because these PNEs miss it: one object for each generation of their GKDKs, for present members only.

    The event Aired or BroadcastUnavailable must follow. If an airing is under way, StopAiring comes before this action.
    `again`: the object was on the air for all of these PNEs before, and most of its recipients have it.
    """

    missing: frozenset[str]
    again: bool = False


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Set the timer, whose event is TimerExpired, to this monotonic time; None cancels it."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Send the Server a delivery report of the stored states (Q-08)."""


Action = Save | CancelUnicast | StopAiring | StartAiring | SendUnicast | SetTimer | Report


@dataclass(slots=True)
class _Changes:
    """The next state, and the actions, while a step computes them."""

    before: Delivery
    recipients: dict[str, Recipient]
    airing: frozenset[str]
    rounds: int
    next_round_at: float
    back_at: float
    cancelled: set[str] = field(default_factory=set)
    unicast: list[str] = field(default_factory=list)
    start: bool = False
    again: bool = False
    has_ended: bool = False  # True if the airing has ended by itself

    def set(self, pne_id: str, recipient: Recipient) -> None:
        """Replace one recipient. If it is not asked any more, its unicast is cancelled."""
        if self.recipients[pne_id].is_asked and not recipient.is_asked:
            self.cancelled.add(pne_id)
        self.recipients[pne_id] = recipient

    def send(self, pne_id: str) -> None:
        """Send a unicast now to a PNE that is reached by unicast."""
        recipient = self.recipients[pne_id]
        self.recipients[pne_id] = replace(recipient, state=PneState.SENT, retry_at=inf, tries=recipient.tries + 1)
        self.unicast.append(pne_id)

    def give_up_broadcast(self, pne_id: str) -> None:
        """Continue with unicast only for this PNE, and send it now unless one is queued or under way."""
        recipient = self.recipients[pne_id]
        self.recipients[pne_id] = replace(recipient, ways=BY_UNICAST)
        if Way.UNICAST not in recipient.ways:
            self.send(pne_id)

    def air(self, missing: Iterable[str], again: bool = False) -> None:
        """Begin an airing for these PNEs, which counts as one more round."""
        self.rounds += 1
        self.start, self.again = True, again
        self.airing = frozenset(missing)
        self.next_round_at = inf
        for pne_id in self.airing:
            recipient = self.recipients[pne_id]
            is_first = recipient.state is PneState.PENDING and recipient.ways == BY_BROADCAST
            state = PneState.SENT if is_first else recipient.state
            self.recipients[pne_id] = replace(recipient, state=state, tries=recipient.tries + 1)

    def listeners(self) -> list[str]:
        """Return the PNEs that miss the key and have broadcast as one of their ways."""
        return [pne_id for pne_id, recipient in self.recipients.items() if recipient.listens]


def step(delivery: Delivery, event: Event, now: float, pacing: Pacing) -> tuple[Delivery, tuple[Action, ...]]:
    """Return the state after one event and the actions to execute.

    An event that does not matter any more changes nothing and has no actions. Raises ValueError for Started in any
    phase but NEW, and for Restarted in NEW.
    """
    changes = _Changes(
        delivery,
        dict(delivery.recipients),
        delivery.airing,
        delivery.rounds,
        delivery.next_round_at,
        delivery.back_at,
    )
    if delivery.phase is Phase.SUPERSEDED:
        return delivery, ()
    if isinstance(event, Superseded):
        return _superseded(delivery)
    if isinstance(event, (Started, Restarted)):
        if (delivery.phase is Phase.NEW) != isinstance(event, Started):
            raise ValueError(f"{type(event).__name__} in phase {delivery.phase}")
        _begin(changes)
    elif isinstance(event, UnicastAnswered):
        _confirmed(changes, event.pne_ids, BY_UNICAST)
        changes.cancelled.clear()  # these unicasts have ended, so there is nothing to cancel
    elif isinstance(event, BroadcastConfirmed):
        _confirmed(changes, event.pne_ids, BY_BROADCAST)
    elif isinstance(event, NewcomersConfirmed):
        _newcomers_confirmed(changes, event.tries)
    elif isinstance(event, UnicastFailed):
        _unicast_failed(changes, event.pne_ids, now, pacing)
    elif isinstance(event, Pulled):
        _pulled(changes, event.pne_id, now, pacing)
    elif isinstance(event, BroadcastRefused):
        recipient = changes.recipients.get(event.pne_id)
        if recipient and recipient.listens:
            changes.give_up_broadcast(event.pne_id)
    elif isinstance(event, (Aired, BroadcastUnavailable)):
        _airing_ended(changes, isinstance(event, Aired), now, pacing)
    elif isinstance(event, MediumBack):
        _medium_back(changes, event.pne_ids, now, pacing)
    elif isinstance(event, MembersRemoved):
        _removed(changes, event.pne_ids)
    else:
        _timer(changes, now, pacing)
    return _close(changes)


def _begin(changes: _Changes) -> None:
    for pne_id, recipient in changes.recipients.items():
        if recipient.state in OPEN and Way.BROADCAST not in recipient.ways:
            changes.send(pne_id)
    changes.rounds = 0
    if listeners := changes.listeners():
        changes.air(listeners)


def _airing_ended(changes: _Changes, is_aired: bool, now: float, pacing: Pacing) -> None:
    if not changes.airing:
        return
    changes.airing = frozenset()
    changes.has_ended = True
    if is_aired:
        first = any(changes.recipients[pne_id].first for pne_id in changes.listeners())
        changes.next_round_at = now + pacing.wait_s(len(changes.recipients), changes.rounds, first)
    else:
        _everyone_by_unicast(changes)


def _medium_back(changes: _Changes, pne_ids: frozenset[str], now: float, pacing: Pacing) -> None:
    """Air the key once more to all PNEs that miss it, also to unreachable ones and those asked by unicast."""
    given_up = set()
    for pne_id in pne_ids & changes.recipients.keys():
        recipient = changes.recipients[pne_id]
        if recipient.state in OPEN:
            changes.recipients[pne_id] = replace(recipient, ways=recipient.ways | BY_BROADCAST)
        elif recipient.state is PneState.UNREACHABLE:
            given_up.add(pne_id)
    missing = given_up.union(changes.listeners())
    if changes.airing:  # the medium takes part in an airing under way by itself
        for pne_id in missing - changes.airing:
            changes.recipients[pne_id] = replace(changes.recipients[pne_id], tries=changes.recipients[pne_id].tries + 1)
        changes.airing |= missing
    elif missing and (changes.rounds < pacing.rounds_max or now >= changes.back_at + pacing.comeback_s):
        changes.back_at = now
        changes.air(missing)


def _removed(changes: _Changes, pne_ids: frozenset[str]) -> None:
    """Exclude these PNEs (SEC-06). An object on the air, which they could read, is replaced (SEC-38)."""
    for pne_id in pne_ids & changes.recipients.keys():
        changes.set(pne_id, replace(changes.recipients[pne_id], state=PneState.EXCLUDED, retry_at=inf))
        changes.start = bool(changes.airing)


def _timer(changes: _Changes, now: float, pacing: Pacing) -> None:
    for pne_id, recipient in changes.recipients.items():
        if recipient.state is PneState.PENDING and recipient.retry_at <= now:
            changes.send(pne_id)
    if changes.next_round_at > now:
        return
    missing = changes.listeners()
    few = len(missing) <= pacing.straggler_limit or len(missing) < pacing.straggler_share * len(changes.recipients)
    if few or changes.rounds >= pacing.rounds_max:
        _everyone_by_unicast(changes)
    else:
        changes.air(missing, again=True)


def _everyone_by_unicast(changes: _Changes) -> None:
    changes.next_round_at = inf
    for pne_id in changes.listeners():
        changes.give_up_broadcast(pne_id)


def _unicast_failed(changes: _Changes, pne_ids: Iterable[str], now: float, pacing: Pacing) -> None:
    for pne_id in pne_ids:
        recipient = changes.recipients.get(pne_id)
        if recipient is None or not recipient.is_asked:
            continue  # the PNE left, or confirmed on the other way, in the meantime
        failures = recipient.failures + 1
        if failures >= pacing.failures_max:
            recipient = replace(recipient, state=PneState.UNREACHABLE, failures=failures)
        else:
            retry_at = now + pacing.unicast_retry_s * 2**recipient.failures
            recipient = replace(recipient, state=PneState.PENDING, failures=failures, retry_at=retry_at)
        changes.recipients[pne_id] = recipient


def _confirmed(changes: _Changes, pne_ids: Iterable[str], way: Ways) -> None:
    """Mark these PNEs as confirmed. A PNE that had both ways keeps only `way`, on which the confirmation came."""
    for pne_id in pne_ids:
        recipient = changes.recipients.get(pne_id)
        if recipient and recipient.state is not PneState.EXCLUDED:
            ways = recipient.ways & way or recipient.ways
            changes.set(pne_id, replace(recipient, state=PneState.CONFIRMED, ways=ways, failures=0, retry_at=inf))


def _newcomers_confirmed(changes: _Changes, tries: Mapping[str, int]) -> None:
    for pne_id in tries.keys() - changes.recipients.keys():
        changes.recipients[pne_id] = Recipient(PneState.CONFIRMED, pulled=True, tries=tries[pne_id])


def _pulled(changes: _Changes, pne_id: str, now: float, pacing: Pacing) -> None:
    """Give the PNE time to confirm before a unicast is sent to it. Only its first pull has this effect."""
    recipient = changes.recipients.get(pne_id)
    if recipient is None or recipient.state not in OPEN or recipient.pulled or recipient.is_asked:
        return
    not_before = 0.0 if recipient.retry_at == inf else recipient.retry_at
    retry_at = max(not_before, now + pacing.unicast_retry_s)
    waiting = replace(recipient, state=PneState.PENDING, ways=BY_UNICAST, retry_at=retry_at)
    changes.set(pne_id, replace(waiting, pulled=True, tries=recipient.tries + 1))


def _superseded(before: Delivery) -> tuple[Delivery, tuple[Action, ...]]:
    """End the delivery, its unicasts and its airing (SEC-38)."""
    asked = frozenset(pne_id for pne_id, recipient in before.recipients.items() if recipient.is_asked)
    after = replace(before, phase=Phase.SUPERSEDED, next_round_at=inf, airing=frozenset())
    cancel = (CancelUnicast(asked),) if asked else ()
    stop = (StopAiring(),) if before.airing else ()
    report = () if before.phase is Phase.FINISHED else (Report(),)
    return after, (Save({}, Phase.SUPERSEDED), *cancel, *stop, SetTimer(None), *report)


def _close(changes: _Changes) -> tuple[Delivery, tuple[Action, ...]]:
    """Return the next state and the actions that follow from the differences to the state before."""
    before = changes.before
    changed = {
        pne_id: recipient.state
        for pne_id, recipient in changes.recipients.items()
        if pne_id not in before.recipients or recipient.state is not before.recipients[pne_id].state
    }
    still_open = sum(recipient.state in OPEN for recipient in changes.recipients.values())
    phase = Phase.RUNNING if still_open else Phase.FINISHED
    if not still_open or not changes.listeners():
        changes.next_round_at = inf
    airing = frozenset(pne_id for pne_id in changes.airing if _misses(changes.recipients[pne_id]))
    after = Delivery(
        before.sg_id,
        before.version,
        changes.recipients,
        phase,
        changes.rounds,
        changes.next_round_at,
        still_open,
        airing,
        changes.back_at,
    )
    actions: list[Action] = []
    durable = {pne_id: state for pne_id, state in changed.items() if state not in OPEN}
    if durable or phase is not before.phase:
        actions.append(Save(durable, phase))
    if changes.cancelled:
        actions.append(CancelUnicast(frozenset(changes.cancelled)))
    if before.airing and not changes.has_ended and (changes.start or not airing):
        actions.append(StopAiring())
    if changes.start and airing:
        actions.append(StartAiring(airing, changes.again))
    actions += [SendUnicast(pne_id) for pne_id in changes.unicast]
    timer = _next_wake(after)
    if timer != _next_wake(before) or before.phase is Phase.NEW:
        actions.append(SetTimer(timer))
    if phase is Phase.FINISHED and (durable or before.phase is not Phase.FINISHED):
        actions.append(Report())
    return after, tuple(actions)


def _misses(recipient: Recipient) -> bool:
    """Return True if the PNE may still get the key from an airing."""
    return recipient.listens or recipient.state is PneState.UNREACHABLE


def _next_wake(delivery: Delivery) -> float | None:
    """Return the earliest time at which TimerExpired has an effect, None if there is none."""
    waiting = [r.retry_at for r in delivery.recipients.values() if r.state is PneState.PENDING]
    at = min([delivery.next_round_at, *waiting])
    return None if at == inf else at
