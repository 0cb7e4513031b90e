"""One delivery of one Group Key to the member PNEs of a Service Group in this PN, as a pure state machine.

`step(delivery, event, now, pacing)` gives the next state and the actions to carry out, in order; what is to be stored
comes before what is to be sent. `now` is monotonic seconds. No I/O, clock or randomness in here; keys and octets
neither: whoever executes `SendBroadcast` makes the object from the store at that moment.

Each PNE is in exactly one state. EXCLUDED is final: no action ever names such a PNE again. A PNE with a GKDK is
reached by broadcast until few are missing, then by unicast; the others by unicast from the start (Q-19, Q-20).
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf


class PneState(StrEnum):
    """Where one PNE of a delivery is."""

    PENDING = "pending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    UNREACHABLE = "unreachable"
    EXCLUDED = "excluded"


class Phase(StrEnum):
    """Where the delivery is. FINISHED: every PNE is confirmed, unreachable or excluded."""

    NEW = "new"
    RUNNING = "running"
    FINISHED = "finished"
    SUPERSEDED = "superseded"


OPEN = frozenset((PneState.PENDING, PneState.SENT))


@dataclass(frozen=True, slots=True)
class Pacing:
    """When to repeat and when to stop. Times in seconds."""

    dtim_s: float = 0.31
    """Stations asleep hear broadcasts once in this time: beacon interval 102.4 ms x DTIM 3."""
    confirmation_cost_s: float = 0.001
    """One confirmation's share of the PN GW; n members answer over n times this, told to them as leisure."""
    answer_s: float = 1.0
    """What a board needs to open, verify and store before its leisure begins."""
    first_answer: float = 2.5
    """So many times that, where a board may verify its first signature since its start: the table of the signing key is
    not made yet. Published ESP32 firmware confirmed a first key 0.9 to 2.3 s after the broadcast; who is sent a unicast
    meanwhile stores and answers twice."""
    loss: float = 0.1
    """Share of the broadcasts that a PNE is expected to miss; 0 sends no copies."""
    backoff: float = 1.5
    interval_max_s: float = 60.0
    rounds_max: int = 8
    """Broadcasts of one delivery: 1,024 PNEs at 20 % loss need 8 (99 %)."""
    straggler_share: float = 0.05
    straggler_limit: int = 3
    """Unicast goes on when fewer than the share, or at most the limit, are missing."""
    unicast_retry_s: float = 5.0
    failures_max: int = 3
    """Unicast failures in a row that make a PNE unreachable (Q-17)."""

    def interval(self, recipients: int, rounds: int, first: bool = False) -> float:
        """Seconds to wait after broadcast `rounds` (from 1) to `recipients` PNEs; `first` where one of them misses it.

        After the copies never sooner than their confirmations need, or the PN GW drowns in its own repeats.
        """
        if self.copying(recipients, rounds):
            return self.dtim_s
        answer_s = self.answer_s * self.first_answer if first else self.answer_s
        needed = answer_s + recipients * self.confirmation_cost_s
        waits = max(0, rounds - self.copies(recipients))
        return max(needed, min(max(self.dtim_s, needed) * self.backoff**waits, self.interval_max_s))

    def copies(self, recipients: int) -> int:
        """The broadcasts that go out a DTIM apart before anybody is waited for: so many that fewer than two PNEs are
        expected to miss all. They cost the PN GW no answers, as a PNE confirms a version once."""
        copies = 1
        while recipients * self.loss**copies >= 2 and copies < self.rounds_max:
            copies += 1
        return copies

    def copying(self, recipients: int, rounds: int) -> bool:
        """True when after `rounds` broadcasts another copy is due, whoever has confirmed by then."""
        return rounds < self.copies(recipients)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One PNE, reached by broadcast or by unicast. `first`: it has confirmed no broadcast since its start; `retry_at`:
    when unicast is tried again; `pulled`: it was given the key at its own wish."""

    state: PneState = PneState.PENDING
    by_broadcast: bool = False
    first: bool = False
    failures: int = 0
    retry_at: float = inf
    pulled: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """State of one delivery. `open` counts the recipients that are pending or sent."""

    sg_id: str
    version: int
    recipients: Mapping[str, Recipient]
    phase: Phase = Phase.NEW
    rounds: int = 0
    next_round_at: float = inf
    open: int = 0


def new_delivery(
    sg_id: str, version: int, by_broadcast: Mapping[str, bool], first: Container[str] = frozenset()
) -> Delivery:
    """A delivery that has not started. `by_broadcast`: PNE ID -> whether a broadcast reaches it; `first`: as there."""
    recipients = {
        pne_id: Recipient(by_broadcast=broadcast, first=pne_id in first) for pne_id, broadcast in by_broadcast.items()
    }
    return Delivery(sg_id, version, recipients, open=len(recipients))


def restored_delivery(
    sg_id: str, version: int, by_broadcast: Mapping[str, bool], states: Mapping[str, str]
) -> Delivery:
    """A delivery as the store knows it after a restart; a running one goes on with `Restarted`."""
    recipients = {
        pne_id: Recipient(PneState(state), by_broadcast.get(pne_id, False)) for pne_id, state in states.items()
    }
    still_open = sum(recipient.state in OPEN for recipient in recipients.values())
    return Delivery(sg_id, version, recipients, Phase.RUNNING if still_open else Phase.FINISHED, open=still_open)


@dataclass(frozen=True, slots=True)
class Started:
    """Begin."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The process began anew: what was on its way is not."""


@dataclass(frozen=True, slots=True)
class UnicastAnswered:
    """These PNEs answered that they hold the key."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class UnicastFailed:
    """No session, no answer, or a refusal."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class BroadcastConfirmed:
    """These PNEs hold the key: they proved it, or said so over their session later on."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pulled:
    """The PNE was given the key at its own wish; whether that has arrived shows when it confirms (SEC-14)."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class BroadcastRefused:
    """The PNE heard the broadcast and could not use it."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class BroadcastUnavailable:
    """No medium took the broadcast (CPNS-GKM-12): everyone by unicast."""


@dataclass(frozen=True, slots=True)
class MembersRemoved:
    """These PNEs are members no more (SEC-06)."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """The time named by SetTimer has come."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer version, or the end of the group: stop."""


Event = (
    Started
    | Restarted
    | UnicastAnswered
    | UnicastFailed
    | BroadcastConfirmed
    | Pulled
    | BroadcastRefused
    | BroadcastUnavailable
    | MembersRemoved
    | TimerExpired
    | Superseded
)


@dataclass(frozen=True, slots=True)
class Save:
    """Write these states and the phase, before any later action."""

    states: Mapping[str, PneState]
    phase: Phase


@dataclass(frozen=True, slots=True)
class CancelUnicast:
    """Take back what is queued or on its way to these PNEs."""

    pne_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class SendUnicast:
    """Send the key over the PNE's session; answer with UnicastAnswered or UnicastFailed."""

    pne_id: str


@dataclass(frozen=True, slots=True)
class SendBroadcast:
    """Broadcast the key once, because these PNEs miss it: one object for each generation of their GKDKs."""

    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Wake with TimerExpired at this monotonic time; None = no timer. Replaces the one before."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report is due: tell the Server the stored states (Q-08)."""


Action = Save | CancelUnicast | SendUnicast | SendBroadcast | SetTimer | Report


@dataclass(slots=True)
class _Changes:
    """The next state while a step works it out."""

    before: Delivery
    recipients: dict[str, Recipient]
    cancelled: set[str] = field(default_factory=set)
    unicast: list[str] = field(default_factory=list)
    broadcast: bool = False
    rounds: int = 0
    next_round_at: float = inf

    def set(self, pne_id: str, recipient: Recipient) -> None:
        """Replace one recipient; leaving SENT by unicast takes back what is on its way."""
        old = self.recipients[pne_id]
        if old.state is PneState.SENT and not old.by_broadcast and recipient.state is not PneState.SENT:
            self.cancelled.add(pne_id)
        self.recipients[pne_id] = recipient

    def send(self, pne_id: str) -> None:
        """Unicast now."""
        recipient = self.recipients[pne_id]
        self.recipients[pne_id] = replace(recipient, state=PneState.SENT, by_broadcast=False, retry_at=inf)
        self.unicast.append(pne_id)


def step(delivery: Delivery, event: Event, now: float, pacing: Pacing) -> tuple[Delivery, tuple[Action, ...]]:
    """Take one event. An event that no longer means anything changes nothing and gives no action."""
    changes = _Changes(
        delivery, dict(delivery.recipients), rounds=delivery.rounds, next_round_at=delivery.next_round_at
    )
    if delivery.phase is Phase.SUPERSEDED:
        return delivery, ()
    if isinstance(event, Superseded):
        return _superseded(changes)
    if isinstance(event, (Started, Restarted)):
        if (delivery.phase is Phase.NEW) != isinstance(event, Started):
            raise ValueError(f"{type(event).__name__} in phase {delivery.phase}")
        _begin(changes, now, pacing)
    elif isinstance(event, (UnicastAnswered, BroadcastConfirmed)):
        _confirmed(changes, event.pne_ids)
        if isinstance(event, UnicastAnswered):
            changes.cancelled.clear()  # they have ended
    elif isinstance(event, UnicastFailed):
        _unicast_failed(changes, event.pne_ids, now, pacing)
    elif isinstance(event, Pulled):
        _pulled(changes, event.pne_id, now, pacing)
    elif isinstance(event, BroadcastRefused):
        recipient = changes.recipients.get(event.pne_id)
        if recipient and recipient.state in OPEN and recipient.by_broadcast:
            changes.send(event.pne_id)
    elif isinstance(event, BroadcastUnavailable):
        _everyone_by_unicast(changes)
    elif isinstance(event, MembersRemoved):
        for pne_id in event.pne_ids & changes.recipients.keys():
            changes.set(pne_id, replace(changes.recipients[pne_id], state=PneState.EXCLUDED, retry_at=inf))
    else:
        _timer(changes, now, pacing)
    return _close(changes)


def _begin(changes: _Changes, now: float, pacing: Pacing) -> None:
    for pne_id, recipient in changes.recipients.items():
        if recipient.state in OPEN and not recipient.by_broadcast:
            changes.send(pne_id)
    changes.rounds = 0
    _round(changes, now, pacing)


def _round(changes: _Changes, now: float, pacing: Pacing) -> None:
    """Broadcast once more to those who are missing, if any."""
    missing = _missing_by_broadcast(changes)
    if not missing:
        changes.next_round_at = inf
        return
    changes.rounds += 1
    changes.broadcast = True
    first = any(changes.recipients[pne_id].first for pne_id in missing)
    changes.next_round_at = now + pacing.interval(len(changes.recipients), changes.rounds, first)
    for pne_id in missing:
        recipient = changes.recipients[pne_id]
        if recipient.state is not PneState.SENT:
            changes.recipients[pne_id] = replace(recipient, state=PneState.SENT)


def _timer(changes: _Changes, now: float, pacing: Pacing) -> None:
    for pne_id, recipient in changes.recipients.items():
        if recipient.state is PneState.PENDING and recipient.retry_at <= now:
            changes.send(pne_id)
    if changes.next_round_at > now:
        return
    if pacing.copying(len(changes.recipients), changes.rounds):
        _round(changes, now, pacing)
        return
    missing = len(_missing_by_broadcast(changes))
    few = missing <= pacing.straggler_limit or missing < pacing.straggler_share * len(changes.recipients)
    if few or changes.rounds >= pacing.rounds_max:
        _everyone_by_unicast(changes)
    else:
        _round(changes, now, pacing)


def _everyone_by_unicast(changes: _Changes) -> None:
    changes.next_round_at = inf
    changes.broadcast = False
    for pne_id in _missing_by_broadcast(changes):
        changes.send(pne_id)


def _unicast_failed(changes: _Changes, pne_ids: Iterable[str], now: float, pacing: Pacing) -> None:
    for pne_id in pne_ids:
        recipient = changes.recipients.get(pne_id)
        if recipient is None or recipient.state is not PneState.SENT or recipient.by_broadcast:
            continue  # it left, or confirmed on another way, while the answer was under way
        failures = recipient.failures + 1
        if failures >= pacing.failures_max:
            recipient = replace(recipient, state=PneState.UNREACHABLE, failures=failures)
        else:
            retry_at = now + pacing.unicast_retry_s * 2**recipient.failures
            recipient = replace(recipient, state=PneState.PENDING, failures=failures, retry_at=retry_at)
        changes.recipients[pne_id] = recipient


def _confirmed(changes: _Changes, pne_ids: Iterable[str]) -> None:
    for pne_id in pne_ids:
        recipient = changes.recipients.get(pne_id)
        if recipient and recipient.state is not PneState.EXCLUDED:
            changes.set(pne_id, replace(recipient, state=PneState.CONFIRMED, failures=0, retry_at=inf))


def _pulled(changes: _Changes, pne_id: str, now: float, pacing: Pacing) -> None:
    """Give it time to confirm before anything more is sent to it, once: then unicast asks it."""
    recipient = changes.recipients.get(pne_id)
    if recipient is None or recipient.state not in OPEN or recipient.pulled:
        return
    if recipient.state is PneState.SENT and not recipient.by_broadcast:
        return  # it is being asked
    not_before = 0.0 if recipient.retry_at == inf else recipient.retry_at
    retry_at = max(not_before, now + pacing.unicast_retry_s)
    changes.set(pne_id, replace(recipient, state=PneState.PENDING, by_broadcast=False, retry_at=retry_at, pulled=True))


def _missing_by_broadcast(changes: _Changes) -> list[str]:
    return [
        pne_id for pne_id, recipient in changes.recipients.items() if recipient.by_broadcast and recipient.state in OPEN
    ]


def _superseded(changes: _Changes) -> tuple[Delivery, tuple[Action, ...]]:
    before = changes.before
    under_way = frozenset(
        pne_id for pne_id, r in before.recipients.items() if r.state is PneState.SENT and not r.by_broadcast
    )
    after = replace(before, phase=Phase.SUPERSEDED, next_round_at=inf)
    cancel = (CancelUnicast(under_way),) if under_way else ()
    report = () if before.phase is Phase.FINISHED else (Report(),)
    return after, (Save({}, Phase.SUPERSEDED), *cancel, SetTimer(None), *report)


def _close(changes: _Changes) -> tuple[Delivery, tuple[Action, ...]]:
    """Compare with the state before and say what is to be done."""
    before = changes.before
    changed = {
        pne_id: recipient.state
        for pne_id, recipient in changes.recipients.items()
        if recipient.state is not before.recipients[pne_id].state
    }
    still_open = sum(recipient.state in OPEN for recipient in changes.recipients.values())
    phase = Phase.RUNNING if still_open else Phase.FINISHED
    if not still_open or not _missing_by_broadcast(changes):
        changes.next_round_at = inf
    after = Delivery(
        before.sg_id, before.version, changes.recipients, phase, changes.rounds, changes.next_round_at, still_open
    )
    actions: list[Action] = []
    durable = {pne_id: state for pne_id, state in changed.items() if state not in OPEN}
    if durable or phase is not before.phase:
        actions.append(Save(durable, phase))
    if changes.cancelled:
        actions.append(CancelUnicast(frozenset(changes.cancelled)))
    if changes.broadcast:
        actions.append(SendBroadcast(frozenset(_missing_by_broadcast(changes))))
    actions += [SendUnicast(pne_id) for pne_id in changes.unicast]
    timer = _next_wake(after)
    if timer != _next_wake(before) or before.phase is Phase.NEW:
        actions.append(SetTimer(timer))
    if phase is Phase.FINISHED and (durable or before.phase is not Phase.FINISHED):
        actions.append(Report())
    return after, tuple(actions)


def _next_wake(delivery: Delivery) -> float | None:
    """The earliest time at which TimerExpired would do something."""
    waiting = [r.retry_at for r in delivery.recipients.values() if r.state is PneState.PENDING]
    at = min([delivery.next_round_at, *waiting])
    return None if at == inf else at
