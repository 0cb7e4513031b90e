"""The delivery engine under random events: its promises hold in every order of them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.delivery import Phase, PneState

PACING = engine.Pacing(confirmation_cost_s=0.001)
NAMES = [f"pne{i}" for i in range(8)]
some = st.frozensets(st.sampled_from([*NAMES, "stranger"]), max_size=4)
recipients = st.dictionaries(st.sampled_from(NAMES), st.booleans(), max_size=8)
events = st.one_of(
    st.builds(engine.UnicastAnswered, some),
    st.builds(engine.UnicastFailed, some),
    st.builds(engine.BroadcastConfirmed, some),
    st.builds(engine.Pulled, st.sampled_from([*NAMES, "stranger"])),
    st.builds(engine.BroadcastRefused, st.sampled_from([*NAMES, "stranger"])),
    st.just(engine.Aired()),
    st.just(engine.BroadcastUnavailable()),
    st.builds(engine.MediumBack, some),
    st.builds(engine.MembersRemoved, some),
    st.just(engine.TimerExpired()),
    st.just(engine.Restarted()),
    st.just(engine.Superseded()),
)


def ways(by_broadcast: dict[str, bool]) -> dict[str, engine.Ways]:
    return {name: engine.BY_BROADCAST if hears else engine.BY_UNICAST for name, hears in by_broadcast.items()}


class Executor:
    """Carries out actions on paper: what is stored, on its way, on the air, and when to wake.

    `on_air`: who can read what is on the air, which is all recipients that were not removed when it was made.
    """

    def __init__(self, by_broadcast: dict[str, bool]) -> None:
        self.state = engine.new_delivery("sg", 7, ways(by_broadcast))
        self.by_broadcast = by_broadcast
        self.stored = dict.fromkeys(by_broadcast, PneState.PENDING)
        self.phase = Phase.NEW
        self.under_way: set[str] = set()
        self.removed: set[str] = set()
        self.wake: float | None = None
        self.reports = 0
        self.on_air: set[str] | None = None

    def take(self, event: engine.Event, now: float) -> None:
        before = self.state
        frozen = dict(before.recipients)
        if isinstance(event, engine.MembersRemoved):
            self.removed |= event.pne_ids & self.by_broadcast.keys()
        if isinstance(event, (engine.UnicastAnswered, engine.UnicastFailed)):
            self.under_way -= event.pne_ids
        if isinstance(event, (engine.Aired, engine.BroadcastUnavailable)):
            if self.on_air is None:
                return  # only what is on the air can end
            self.on_air = None
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
            elif isinstance(action, engine.StopAiring):
                assert self.on_air is not None
                self.on_air = None
            elif isinstance(action, engine.StartAiring):
                assert action.missing and not action.missing & self.removed
                assert self.on_air is None, "two objects of one delivery on the air"
                self.on_air = self.by_broadcast.keys() - self.removed
            elif isinstance(action, engine.SetTimer):
                self.wake = action.at
            else:
                self.reports += 1
        self.check()

    def check(self) -> None:
        state = self.state
        assert state.recipients.keys() == self.by_broadcast.keys()
        assert all(isinstance(recipient.state, PneState) for recipient in state.recipients.values())
        assert bool(state.airing) == (self.on_air is not None)
        if state.phase is Phase.SUPERSEDED:
            assert not self.under_way and self.wake is None and self.on_air is None
            return
        assert state.open == sum(r.state in engine.OPEN for r in state.recipients.values())
        assert (state.phase is Phase.FINISHED) == (state.phase is not Phase.NEW and state.open == 0)
        assert self.phase is state.phase
        for pne_id, recipient in state.recipients.items():
            if recipient.state not in engine.OPEN:
                assert self.stored[pne_id] is recipient.state, "a final state is not stored"
                assert pne_id not in self.under_way
            assert (pne_id in self.under_way) == recipient.is_asked
        for pne_id in self.removed:
            assert state.recipients[pne_id].state is PneState.EXCLUDED
            assert not self.on_air or pne_id not in self.on_air, "an object that who was removed can read is on the air"
        if state.open and not self.under_way and self.on_air is None:
            assert self.wake is not None, "nothing would ever happen again"

    def restart(self, now: float) -> None:
        """The process dies and comes back with what was stored."""
        self.under_way, self.wake, self.on_air = set(), None, None
        if self.phase is Phase.SUPERSEDED:
            return
        states = {pne_id: str(state) for pne_id, state in self.stored.items()}
        self.state = engine.restored_delivery("sg", 7, ways(self.by_broadcast), states)
        self.phase = self.state.phase
        if self.state.phase is Phase.RUNNING:
            self.take(engine.Restarted(), now)


@pytest.mark.req("SEC-06", "SEC-38")
@settings(max_examples=300)
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


@settings(max_examples=200)
@given(recipients, st.randoms(use_true_random=False), st.integers(0, 3), st.integers(0, 12))
def test_a_delivery_ends_whatever_is_lost(by_broadcast, random, restarts, comebacks):
    """Broadcasts and unicasts may be lost, media come back, there are restarts: the delivery ends and is reported."""
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
        if comebacks and random.random() < 0.1:
            comebacks -= 1
            executor.take(engine.MediumBack(frozenset(by_broadcast)), now)
        elif executor.on_air is not None and random.random() < 0.7:
            executor.take(random.choice([engine.Aired(), engine.BroadcastUnavailable()]), now)
        elif executor.under_way and random.random() < 0.7:
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
    wait = PACING.wait_s(recipients_, rounds)
    assert wait >= PACING.answer_s + recipients_ * PACING.confirmation_cost_s
    assert PACING.wait_s(recipients_, rounds + 1) >= wait


@given(st.integers(4, 300), st.data())
def test_rounds_stop_and_stragglers_get_unicast(count, data):
    """Nobody ever confirms: the airings are bounded, then everyone is tried by unicast, then given up."""
    pacing = replace(PACING, rounds_max=data.draw(st.integers(1, 6)))
    delivery = engine.new_delivery("sg", 1, ways({f"p{i}": True for i in range(count)}))
    state, actions = engine.step(delivery, engine.Started(), 0, pacing)
    rounds = 0
    while any(isinstance(action, engine.StartAiring) for action in actions):
        rounds += 1
        state, _ = engine.step(state, engine.Aired(), 0, pacing)
        state, actions = engine.step(state, engine.TimerExpired(), state.next_round_at, pacing)
    assert rounds == pacing.rounds_max
    assert sum(isinstance(action, engine.SendUnicast) for action in actions) == count
