"""The delivery engine under random events: no order of them breaks what it promises."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.delivery import Phase, PneState

PACING = engine.Pacing()
NAMES = [f"pne{i}" for i in range(8)]
some = st.frozensets(st.sampled_from([*NAMES, "stranger"]), max_size=4)
recipients = st.dictionaries(st.sampled_from(NAMES), st.booleans(), max_size=8)
events = st.one_of(
    st.builds(engine.UnicastAnswered, some),
    st.builds(engine.UnicastFailed, some),
    st.builds(engine.BroadcastConfirmed, some),
    st.builds(engine.Pulled, st.sampled_from([*NAMES, "stranger"])),
    st.builds(engine.BroadcastRefused, st.sampled_from([*NAMES, "stranger"])),
    st.just(engine.BroadcastUnavailable()),
    st.builds(engine.MembersRemoved, some),
    st.just(engine.TimerExpired()),
    st.just(engine.Restarted()),
    st.just(engine.Superseded()),
)


class Executor:
    """Carries out actions on paper: what is stored, on its way, and when to wake."""

    def __init__(self, by_broadcast: dict[str, bool]) -> None:
        self.state = engine.new_delivery("sg", 7, by_broadcast)
        self.by_broadcast = by_broadcast
        self.stored = dict.fromkeys(by_broadcast, PneState.PENDING)
        self.phase = Phase.NEW
        self.under_way: set[str] = set()
        self.removed: set[str] = set()
        self.wake: float | None = None
        self.reports = 0
        self.rounds_at: list[float] = []

    def take(self, event: engine.Event, now: float) -> None:
        before = self.state
        frozen = dict(before.recipients)
        if isinstance(event, engine.MembersRemoved):
            self.removed |= event.pne_ids & self.by_broadcast.keys()
        if isinstance(event, (engine.UnicastAnswered, engine.UnicastFailed)):
            self.under_way -= event.pne_ids
        self.state, actions = engine.step(before, event, now, PACING)
        assert dict(before.recipients) == frozen, "the state before was changed"
        acted = False
        for action in actions:
            if isinstance(action, engine.Save):
                assert not acted, "stored after acting"
                self.stored.update(action.states)
                self.phase = action.phase
                continue
            acted = True
            if isinstance(action, engine.CancelUnicast):
                self.under_way -= action.pne_ids
            elif isinstance(action, engine.SendUnicast):
                assert action.pne_id not in self.removed and action.pne_id not in self.under_way
                self.under_way.add(action.pne_id)
            elif isinstance(action, engine.SendBroadcast):
                assert action.missing and not action.missing & self.removed
                self.rounds_at.append(now)
            elif isinstance(action, engine.SetTimer):
                self.wake = action.at
            else:
                self.reports += 1
        self.check()

    def check(self) -> None:
        state = self.state
        assert state.recipients.keys() == self.by_broadcast.keys()
        assert all(isinstance(recipient.state, PneState) for recipient in state.recipients.values())
        if state.phase is Phase.SUPERSEDED:
            assert not self.under_way and self.wake is None
            return
        assert state.open == sum(r.state in engine.OPEN for r in state.recipients.values())
        assert (state.phase is Phase.FINISHED) == (state.phase is not Phase.NEW and state.open == 0)
        assert self.phase is state.phase
        for pne_id, recipient in state.recipients.items():
            if recipient.state not in engine.OPEN:
                assert self.stored[pne_id] is recipient.state, "a final state is not stored"
                assert pne_id not in self.under_way
            by_unicast = recipient.state is PneState.SENT and not recipient.by_broadcast
            assert (pne_id in self.under_way) == by_unicast
        for pne_id in self.removed:
            assert state.recipients[pne_id].state is PneState.EXCLUDED
        if state.open and not self.under_way:
            assert self.wake is not None, "nothing would ever happen again"

    def restart(self, now: float) -> None:
        """The process dies and comes back with what was stored."""
        self.under_way, self.wake = set(), None
        if self.phase is Phase.SUPERSEDED:
            return
        states = {pne_id: str(state) for pne_id, state in self.stored.items()}
        self.state = engine.restored_delivery("sg", 7, self.by_broadcast, states)
        self.phase = self.state.phase
        if self.state.phase is Phase.RUNNING:
            self.take(engine.Restarted(), now)


@pytest.mark.req("SEC-06")
@settings(max_examples=300, deadline=None)
@given(recipients, st.lists(st.tuples(events, st.floats(0.0, 30.0)), max_size=40))
def test_each_pne_is_in_one_state_and_nothing_goes_to_who_was_removed(by_broadcast, script):
    executor = Executor(by_broadcast)
    now = 0.0
    executor.take(engine.Started(), now)
    for event, pause in script:
        now += pause
        if isinstance(event, engine.Restarted):
            executor.restart(now)
        else:
            executor.take(event, now)


@settings(max_examples=200, deadline=None)
@given(recipients, st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_delivery_ends_whatever_is_lost(by_broadcast, random, restarts):
    """Every broadcast and unicast may be lost; a few restarts in between; the delivery still ends, and is reported."""
    executor = Executor(by_broadcast)
    now, steps = 0.0, 0
    executor.take(engine.Started(), now)
    while executor.state.phase is Phase.RUNNING:
        steps += 1
        assert steps < 500, "does not terminate"
        if restarts and random.random() < 0.1:
            restarts -= 1
            executor.restart(now)
            continue
        if executor.under_way and random.random() < 0.7:
            pne_id = random.choice(sorted(executor.under_way))
            kind = engine.UnicastAnswered if random.random() < 0.3 else engine.UnicastFailed
            executor.take(kind(frozenset((pne_id,))), now)
        elif executor.wake is not None:
            now = max(now, executor.wake)
            executor.take(engine.TimerExpired(), now)
    assert executor.reports == 1 or not by_broadcast
    assert set(executor.stored.values()) <= {PneState.CONFIRMED, PneState.UNREACHABLE}


@given(st.integers(1, 2000), st.integers(1, 20))
def test_a_repeat_leaves_the_confirmations_the_time_they_need(recipients_, rounds):
    copies = PACING.copies(recipients_)
    interval = PACING.interval(recipients_, copies + rounds - 1)
    assert interval >= PACING.dtim_s
    assert interval >= recipients_ * PACING.confirmation_cost_s
    assert PACING.interval(recipients_, copies + rounds) >= interval


@given(st.integers(4, 300), st.data())
def test_rounds_stop_and_stragglers_get_unicast(count, data):
    """Nobody ever confirms: the broadcasts are bounded, then everyone is tried by unicast, then given up."""
    pacing = replace(PACING, rounds_max=data.draw(st.integers(1, 6)))
    state, _ = engine.step(
        engine.new_delivery("sg", 1, {f"p{i}": True for i in range(count)}), engine.Started(), 0, pacing
    )
    rounds, now = 1, 0.0
    while state.next_round_at < 1e9:
        now = state.next_round_at
        state, actions = engine.step(state, engine.TimerExpired(), now, pacing)
        rounds += any(isinstance(action, engine.SendBroadcast) for action in actions)
    assert rounds == pacing.rounds_max
    assert sum(isinstance(action, engine.SendUnicast) for action in actions) == count
