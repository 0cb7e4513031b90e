"""One delivery, step by step (pure engine)."""

import time

import pytest

from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.delivery import Phase, PneState

PACING = engine.Pacing(confirmation_cost_s=0.001)


def ways(by_broadcast):
    """PNE ID -> the way to begin with, for PNE ID -> whether it hears broadcasts."""
    return {name: engine.BY_BROADCAST if hears else engine.BY_UNICAST for name, hears in by_broadcast.items()}


def start(by_broadcast, pacing=PACING, first=frozenset()):
    return engine.step(engine.new_delivery("light", 6, ways(by_broadcast), first), engine.Started(), 0.0, pacing)


def started_and_aired(by_broadcast, pacing=PACING, first=frozenset()):
    """The same, and the airing has ended at once."""
    state, _ = start(by_broadcast, pacing, first)
    return engine.step(state, engine.Aired(), 0.0, pacing)


def sent(actions):
    return {action.pne_id for action in actions if isinstance(action, engine.SendUnicast)}


def only(actions, kind):
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1
    return found[0]


def test_boards_that_may_verify_their_first_signature_are_waited_for_as_long_as_that_takes():
    """0.9 to 2.3 s after the broadcast, by published firmware for the ESP32; later ones confirm within 0.5 s."""
    for first, wait in (({"a"}, 2.5), (set(), 1.0), ({"c"}, 1.0)):
        state, actions = started_and_aired({"a": True, "b": True, "c": False}, first=first)
        assert only(actions, engine.SetTimer).at == pytest.approx(wait, abs=0.01)
        assert wait == 1.0 or wait > 2.3
    state, _ = engine.step(state, engine.TimerExpired(), 1.01, PACING)
    assert state.recipients["a"].is_asked


@pytest.mark.req("Q-20", "CPNS-GKM-33", "CPNS-GKM-36")
def test_a_mixed_group_gets_one_broadcast_and_unicast_for_the_rest():
    state, actions = start({"a": True, "b": True, "c": False})
    assert only(actions, engine.StartAiring).missing == {"a", "b"}
    assert sent(actions) == {"c"}
    assert {r.state for r in state.recipients.values()} == {PneState.SENT}


def test_nobody_to_tell_is_done_at_once():
    state, actions = start({})
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.Report)


def test_confirmations_end_the_delivery_and_report_it():
    state, _ = started_and_aired({"a": True, "b": True})
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("ab")), 0.5, PACING)
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.Save).states == {"a": PneState.CONFIRMED, "b": PneState.CONFIRMED}
    assert only(actions, engine.SetTimer).at is None
    assert only(actions, engine.Report)


def test_confirmations_are_waited_for_from_the_end_of_the_airing_however_long_it_takes():
    state, actions = start({f"p{i}": True for i in range(100)})
    assert only(actions, engine.StartAiring).missing == state.recipients.keys() == state.airing
    assert only(actions, engine.SetTimer).at is None
    state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(["p1"])), 9.0, PACING)
    state, actions = engine.step(state, engine.Aired(), 30.0, PACING)
    assert only(actions, engine.SetTimer).at == pytest.approx(31.0 + 100 * PACING.confirmation_cost_s)
    assert not state.airing


def test_an_airing_ends_with_the_last_confirmation():
    names = [f"p{i}" for i in range(30)]
    state, _ = start(dict.fromkeys(names, True))
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset(names[1:])), 0.1, PACING)
    assert state.airing == {names[0]} and not any(isinstance(action, engine.StopAiring) for action in actions)
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset(names)), 0.2, PACING)
    assert state.phase is Phase.FINISHED
    assert only(actions, engine.StopAiring)
    assert engine.step(state, engine.Aired(), 0.3, PACING) == (state, ())


def test_few_missing_get_unicast_many_another_broadcast():
    names = {f"p{i}": True for i in range(100)}
    state, actions = started_and_aired(names)
    first = only(actions, engine.SetTimer).at
    state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(list(names)[:60])), 0.5, PACING)
    state, actions = engine.step(state, engine.TimerExpired(), first, PACING)
    again = only(actions, engine.StartAiring)
    assert len(again.missing) == 40 and again.again
    state, actions = engine.step(state, engine.Aired(), first, PACING)
    second = only(actions, engine.SetTimer).at
    assert second - first > first  # back-off
    state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(list(names)[60:96])), second - 0.1, PACING)
    state, actions = engine.step(state, engine.TimerExpired(), second, PACING)
    assert sent(actions) == set(list(names)[96:])
    assert not any(isinstance(action, engine.StartAiring) for action in actions)


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
    state, _ = started_and_aired({"a": by_broadcast, "b": True})
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


@pytest.mark.req("SEC-06", "SEC-38")
@pytest.mark.parametrize("has_confirmed", [False, True])
def test_removal_stops_the_airing_in_the_same_step_and_begins_one_without_the_leaver(has_confirmed):
    """Whether or not it has confirmed: the object on the air is one that it can read."""
    state, _ = start({"a": True, "b": True})
    if has_confirmed:
        state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset("a")), 0.1, PACING)
    state, actions = engine.step(state, engine.MembersRemoved(frozenset("a")), 0.2, PACING)
    kinds = [type(action) for action in actions]
    assert kinds.index(engine.Save) < kinds.index(engine.StopAiring) < kinds.index(engine.StartAiring)
    assert only(actions, engine.StartAiring) == engine.StartAiring(frozenset("b"), again=False)
    state, actions = engine.step(state, engine.MembersRemoved(frozenset("b")), 0.3, PACING)
    assert only(actions, engine.StopAiring) and not any(isinstance(each, engine.StartAiring) for each in actions)


@pytest.mark.req("SEC-38")
def test_a_newer_version_stops_the_airing_in_the_same_step():
    state, _ = start({"a": True})
    state, actions = engine.step(state, engine.Superseded(), 0.2, PACING)
    assert only(actions, engine.StopAiring) and only(actions, engine.Report) and not state.airing
    assert engine.step(state, engine.MediumBack(frozenset("a")), 1.0, PACING) == (state, ())
    _, actions = engine.step(start({})[0], engine.Superseded(), 0.2, PACING)
    assert not any(isinstance(action, engine.Report) for action in actions), "it was reported when it had finished"


def test_a_medium_that_comes_back_airs_what_is_still_owed():
    """Also to those who are asked by unicast meanwhile, which goes on, and to those who were given up."""
    state, _ = start({"a": False, "b": False, "c": False, "d": False})
    for _ in range(3):
        state, _ = engine.step(state, engine.UnicastFailed(frozenset("c")), 0.0, PACING)
        state, _ = engine.step(state, engine.TimerExpired(), 60.0, PACING)
    state, _ = engine.step(state, engine.UnicastAnswered(frozenset("d")), 60.0, PACING)
    state, actions = engine.step(state, engine.MediumBack(frozenset("abcd")), 61.0, PACING)
    assert only(actions, engine.StartAiring).missing == {"a", "b", "c"}
    assert not sent(actions) and not any(isinstance(action, engine.CancelUnicast) for action in actions)
    state, actions = engine.step(state, engine.BroadcastConfirmed(frozenset("ac")), 61.1, PACING)
    assert only(actions, engine.CancelUnicast).pne_ids == {"a"}
    assert only(actions, engine.Save).states == {"a": PneState.CONFIRMED, "c": PneState.CONFIRMED}
    assert state.recipients["a"].ways == engine.BY_BROADCAST
    state, actions = engine.step(state, engine.UnicastAnswered(frozenset("b")), 61.2, PACING)
    assert state.recipients["b"].ways == engine.BY_UNICAST and only(actions, engine.StopAiring)


def test_a_medium_that_comes_and_goes_makes_no_airings_without_end():
    state, _ = start({"a": False})
    airings = 0
    for at in range(100):
        state, actions = engine.step(state, engine.MediumBack(frozenset("a")), at / 100, PACING)
        airings += any(isinstance(action, engine.StartAiring) for action in actions)
        state, _ = engine.step(state, engine.BroadcastUnavailable(), at / 100, PACING)
    assert airings == PACING.rounds_max
    began = []
    for at in range(1, 3600):
        state, actions = engine.step(state, engine.MediumBack(frozenset("a")), at, PACING)
        if any(isinstance(action, engine.StartAiring) for action in actions):
            began.append(at)
            state, _ = engine.step(state, engine.BroadcastUnavailable(), at, PACING)
    assert began == list(range(301, 3600, 300)), "what is owed is aired when it works again"


@pytest.mark.req("CPNS-GKM-12")
def test_without_a_medium_everyone_gets_unicast():
    state, _ = start({"a": True, "b": True})
    state, actions = engine.step(state, engine.BroadcastUnavailable(), 0.0, PACING)
    assert sent(actions) == {"a", "b"} and not state.airing
    assert engine.step(state, engine.TimerExpired(), 99.0, PACING) == (state, ())


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
    state = engine.restored_delivery("light", 6, ways({"b": True, "e": False, "a": True}), stored)
    state, actions = engine.step(state, engine.Restarted(), 100.0, PACING)
    assert only(actions, engine.StartAiring).missing == {"b"}
    assert sent(actions) == {"e"}


def test_starting_twice_is_a_fault_of_the_caller():
    state, _ = start({"a": True})
    with pytest.raises(ValueError, match="Started"):
        engine.step(state, engine.Started(), 1.0, PACING)


def test_a_thousand_pnes_cost_the_engine_little_time():
    names = [f"pne-{i}" for i in range(1000)]
    begun = time.perf_counter()
    state, _ = started_and_aired(dict.fromkeys(names, True))
    for at in range(0, 1000, 50):
        state, _ = engine.step(state, engine.BroadcastConfirmed(frozenset(names[at : at + 50])), 0.5, PACING)
    took = time.perf_counter() - begun
    assert state.phase is Phase.FINISHED
    print(f"\nengine, 1,000 PNEs in 20 batches: {took * 1000:.1f} ms")
    assert took < 1.0
