"""One delivery, step by step (pure engine)."""

import time
from dataclasses import replace

import pytest

from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.delivery import Phase, PneState

PACING = engine.Pacing()


def start(by_broadcast, pacing=PACING):
    return engine.step(engine.new_delivery("light", 6, by_broadcast), engine.Started(), 0.0, pacing)


def sent(actions):
    return {action.pne_id for action in actions if isinstance(action, engine.SendUnicast)}


def only(actions, kind):
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1
    return found[0]


def test_boards_that_may_verify_their_first_signature_are_waited_for_as_long_as_that_takes():
    """0.9 to 2.3 s after the broadcast, by published firmware for the ESP32; later ones confirm within 0.5 s."""
    for first, wait in (({"a"}, 2.5), (set(), 1.0), ({"c"}, 1.0)):
        delivery = engine.new_delivery("light", 6, {"a": True, "b": True, "c": False}, first)
        state, actions = engine.step(delivery, engine.Started(), 0.0, PACING)
        assert only(actions, engine.SetTimer).at == pytest.approx(wait, abs=0.01)
        assert wait == 1.0 or wait > 2.3
    state, _ = engine.step(state, engine.TimerExpired(), 1.01, PACING)
    assert state.recipients["a"].state is PneState.SENT and not state.recipients["a"].by_broadcast


@pytest.mark.req("Q-20", "CPNS-GKM-33", "CPNS-GKM-36")
def test_a_mixed_group_gets_one_broadcast_and_unicast_for_the_rest():
    state, actions = start({"a": True, "b": True, "c": False})
    assert only(actions, engine.SendBroadcast).missing == {"a", "b"}
    assert sent(actions) == {"c"}
    assert {r.state for r in state.recipients.values()} == {PneState.SENT}


def test_nobody_to_tell_is_done_at_once():
    state, actions = start({})
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.Report)


def test_confirmations_end_the_delivery_and_report_it():
    state, _ = start({"a": True, "b": True})
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("ab")), 0.5, PACING)
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.Save).states == {"a": PneState.CONFIRMED, "b": PneState.CONFIRMED}
    assert only(actions, engine.SetTimer).at is None
    assert only(actions, engine.Report)


def test_a_broadcast_is_copied_a_dtim_apart_whoever_has_confirmed():
    state, actions = start({f"p{i}": True for i in range(100)})
    copies, now = 1, 0.0
    while (wait := only(actions, engine.SetTimer).at - now) == pytest.approx(PACING.dtim_s):
        now += wait
        state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset([f"p{copies}"])), now, PACING)
        state, actions = engine.step(state, engine.TimerExpired(), now, PACING)
        copies += 1
        assert only(actions, engine.SendBroadcast).missing.isdisjoint({f"p{i}" for i in range(1, copies)})
        assert not sent(actions)
    assert copies == PACING.copies(100) == 2
    assert wait == pytest.approx(PACING.answer_s + 100 * PACING.confirmation_cost_s)


@pytest.mark.parametrize(("recipients", "copies"), [(1, 1), (19, 1), (21, 2), (100, 2), (1024, 3)])
def test_a_home_gets_one_datagram_and_a_thousand_boards_three(recipients, copies):
    assert PACING.copies(recipients) == copies


def test_copies_end_with_the_last_confirmation():
    names = [f"p{i}" for i in range(30)]
    state, actions = start(dict.fromkeys(names, True))
    first = only(actions, engine.SetTimer).at
    state, actions = engine.step(state, engine.TimerExpired(), first, PACING)
    assert only(actions, engine.SendBroadcast).missing == set(names), "boards that still verify are no stragglers"
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset(names)), first + 0.1, PACING)
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.SetTimer).at is None


def test_few_missing_get_unicast_many_another_broadcast():
    pacing = replace(PACING, loss=0.0)
    names = {f"p{i}": True for i in range(100)}
    state, actions = start(names, pacing)
    first = only(actions, engine.SetTimer).at
    state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(list(names)[:60])), 0.5, pacing)
    state, actions = engine.step(state, engine.TimerExpired(), first, pacing)
    assert len(only(actions, engine.SendBroadcast).missing) == 40
    second = only(actions, engine.SetTimer).at
    assert second - first > first  # back-off
    state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(list(names)[60:96])), second - 0.1, pacing)
    state, actions = engine.step(state, engine.TimerExpired(), second, pacing)
    assert sent(actions) == set(list(names)[96:])
    assert not any(isinstance(action, engine.SendBroadcast) for action in actions)


@pytest.mark.req("Q-17")
def test_three_failures_make_a_pne_unreachable_and_a_later_proof_confirms_it():
    state, actions = start({"a": False})
    now = 0.0
    for _ in range(2):
        state, actions = engine.step(state, engine.UnicastFailed(frozenset("a")), now, PACING)
        assert state.recipients["a"].state is PneState.PENDING
        now = only(actions, engine.SetTimer).at
        state, actions = engine.step(state, engine.TimerExpired(), now, PACING)
        assert sent(actions) == {"a"}
    state, actions = engine.step(state, engine.UnicastFailed(frozenset("a")), now, PACING)
    assert only(actions, engine.Save).states == {"a": PneState.UNREACHABLE}
    assert state.phase is Phase.FINISHED
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("a")), now + 99, PACING)
    assert only(actions, engine.Save).states == {"a": PneState.CONFIRMED}
    assert only(actions, engine.Report)


@pytest.mark.req("SEC-14")
@pytest.mark.parametrize("by_broadcast", [True, False])
def test_who_pulls_is_not_confirmed_but_has_time_to_prove_that_it_holds_the_key(by_broadcast):
    state, _ = start({"a": by_broadcast, "b": True})
    if not by_broadcast:
        state, _ = engine.step(state, engine.UnicastFailed(frozenset("a")), 0.0, PACING)
    state, actions = engine.step(state, engine.Pulled("a"), 0.2, PACING)
    assert state.recipients["a"].state is PneState.PENDING
    assert not sent(actions)
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("b")), 0.3, PACING)
    assert only(actions, engine.SetTimer).at == pytest.approx(0.2 + PACING.unicast_retry_s)  # nothing sooner
    proven, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("a")), 0.4, PACING)
    assert proven.phase is Phase.FINISHED and only(actions, engine.Report)
    state, _ = engine.step(state, engine.Pulled("a"), 5.0, PACING)  # again: that gives no more time
    state, actions = engine.step(state, engine.TimerExpired(), 5.2, PACING)
    assert sent(actions) == {"a"}
    assert engine.step(state, engine.Pulled("a"), 5.3, PACING) == (state, ())  # the answer under way will tell


@pytest.mark.req("SEC-06")
def test_removal_takes_back_a_unicast_under_way_in_the_same_step():
    state, _ = start({"a": False, "b": False})
    state, actions = engine.step(state, engine.MembersRemoved(frozenset("a")), 0.1, PACING)
    assert only(actions, engine.CancelUnicast).pne_ids == {"a"}
    state, actions = engine.step(state, engine.UnicastAnswered(frozenset("a")), 0.2, PACING)
    assert not actions and state.recipients["a"].state is PneState.EXCLUDED


@pytest.mark.req("CPNS-GKM-12")
def test_without_a_medium_everyone_gets_unicast():
    state, _ = start({"a": True, "b": True})
    state, actions = engine.step(state, engine.BroadcastUnavailable(), 0.0, PACING)
    assert sent(actions) == {"a", "b"}
    assert only(actions, engine.SetTimer).at is None


def test_a_refused_broadcast_is_followed_by_unicast():
    state, _ = start({"a": True, "b": True})
    _, actions = engine.step(state, engine.BroadcastRefused("a"), 0.1, PACING)
    assert sent(actions) == {"a"}


def test_a_newer_version_ends_everything():
    state, _ = start({"a": False, "b": True})
    state, actions = engine.step(state, engine.Superseded(), 0.1, PACING)
    assert only(actions, engine.CancelUnicast).pne_ids == {"a"}
    assert only(actions, engine.SetTimer).at is None
    for event in (
        engine.TimerExpired(),
        engine.UnicastFailed(frozenset("a")),
        engine.BroadcastConfirmed(frozenset("b")),
    ):
        assert engine.step(state, event, 9.0, PACING) == (state, ())


def test_a_restart_repeats_what_is_open_and_nothing_else():
    stored = {"a": "confirmed", "b": "sent", "c": "excluded", "d": "unreachable", "e": "pending"}
    state = engine.restored_delivery("light", 6, {"b": True, "e": False, "a": True}, stored)
    state, actions = engine.step(state, engine.Restarted(), 100.0, PACING)
    assert only(actions, engine.SendBroadcast).missing == {"b"}
    assert sent(actions) == {"e"}


def test_starting_twice_is_a_fault_of_the_caller():
    state, _ = start({"a": True})
    with pytest.raises(ValueError, match="Started"):
        engine.step(state, engine.Started(), 1.0, PACING)


def test_a_thousand_pnes_cost_the_engine_little_time():
    names = [f"pne-{i}" for i in range(1000)]
    begun = time.perf_counter()
    state, _ = start(dict.fromkeys(names, True))
    for at in range(0, 1000, 50):
        state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(names[at : at + 50])), 0.5, PACING)
    took = time.perf_counter() - begun
    assert state.phase is Phase.FINISHED
    print(f"\nengine, 1,000 PNEs in 20 batches: {took * 1000:.1f} ms")
    assert took < 1.0
