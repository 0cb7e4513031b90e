"""One PN GW, one Service Group: what is sent next, and when (Q-17, SEC-27)."""

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.delivery_queue import (
    Accepted,
    Asked,
    ClearAlarm,
    Confirmed,
    DeliveryQueue,
    Event,
    Failed,
    GatewayHeard,
    Kind,
    Position,
    RaiseAlarm,
    Record,
    Rewound,
    Send,
    Tick,
    Wanted,
    back_off,
    step,
)


def run(*events: tuple[Event, float], state: DeliveryQueue | None = None) -> tuple[DeliveryQueue, list[list[object]]]:
    """Feed (event, time) pairs; give the last state and the actions of each step."""
    state = state or DeliveryQueue()
    taken: list[list[object]] = []
    for event, now in events:
        state, actions = step(state, event, now)
        taken.append(list(actions))
    return state, taken


NEWS = Wanted(Position(revision=1, version=5))


@pytest.mark.req("SEC-06")
def test_the_inventory_goes_before_the_key() -> None:
    state, actions = run((NEWS, 0), (Accepted(), 1), (Accepted(), 2))
    assert actions == [
        [Send(Kind.INVENTORY, Position(1, 0))],
        [Record(Position(1, 0)), Send(Kind.KEY, Position(1, 5))],
        [Record(Position(1, 5))],
    ]
    assert state.settled and state.wake_at is None and state.name == "settled"


@pytest.mark.req("SEC-27")
def test_only_one_request_is_on_its_way_and_the_newest_follows() -> None:
    newer = Wanted(Position(1, 9))
    state, actions = run((NEWS, 0), (Accepted(), 1), (Wanted(Position(1, 7)), 2), (newer, 3), (Accepted(), 4))
    assert actions[2:4] == [[], []]
    assert actions[4] == [Record(Position(1, 5)), Send(Kind.KEY, Position(1, 9))]  # 7 was never sent
    assert state.name == "sending"


def test_a_removed_member_is_told_before_the_next_key_even_if_an_older_key_was_on_its_way() -> None:
    _, actions = run((NEWS, 0), (Accepted(), 1), (Wanted(Position(2, 6)), 2), (Accepted(), 3), (Accepted(), 4))
    assert [a for step_ in actions for a in step_ if isinstance(a, Send)] == [
        Send(Kind.INVENTORY, Position(1, 0)),
        Send(Kind.KEY, Position(1, 5)),
        Send(Kind.INVENTORY, Position(2, 5)),
        Send(Kind.KEY, Position(2, 6)),
    ]


@pytest.mark.req("Q-17")
def test_silence_is_retried_with_back_off_and_the_third_failure_is_an_alarm() -> None:
    state, _ = run((NEWS, 0))
    now = 0.0
    for failures in range(1, 6):
        state, actions = step(state, Failed(refused=False), now)
        assert actions == ([RaiseAlarm(3)] if failures == tuning.FAILURES_UNTIL_ALARM else [])
        assert state.wake_at == now + back_off(failures)
        assert step(state, Tick(), state.wake_at - 0.01) == (state, [])
        now = state.wake_at
        assert state.name == ("failing" if failures >= 3 else "waiting")
        state, actions = step(state, Tick(), now)
        assert actions == [Send(Kind.INVENTORY, Position(1, 0))]
    state, actions = step(state, Accepted(), now)
    assert ClearAlarm() in actions and state.failures == 0


def test_back_off_doubles_up_to_its_limit() -> None:
    waits = [back_off(failures) for failures in range(1, 100)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert max(waits) == waits[-1] == tuning.RETRY_MAX_S


def test_a_pn_gw_that_comes_back_is_served_at_once_but_one_that_refused_is_not() -> None:
    silent, _ = run((NEWS, 0), (Failed(refused=False), 1))
    assert step(silent, GatewayHeard(), 1.5)[1] == [Send(Kind.INVENTORY, Position(1, 0))]
    refusing, _ = run((NEWS, 0), (Failed(refused=True), 1))
    assert step(refusing, GatewayHeard(), 1.5)[1] == []


def test_something_newer_does_not_wait_for_the_back_off_of_what_failed() -> None:
    failed, _ = run((NEWS, 0), (Failed(refused=True), 1))
    assert step(failed, NEWS, 1.5)[1] == []
    assert step(failed, Wanted(Position(2, 5)), 1.5)[1] == [Send(Kind.INVENTORY, Position(2, 0))]


def test_a_pn_gw_that_lost_its_store_is_told_again() -> None:
    state, _ = run((NEWS, 0), (Accepted(), 1), (Accepted(), 2))
    state, actions = step(state, Rewound(Position()), 3)
    assert actions == [Record(Position()), Send(Kind.INVENTORY, Position(1, 0))]
    assert step(state, Rewound(Position(1, 5)), 4)[1] == []  # it never makes the Server believe more than it knows


def test_an_answer_that_crossed_the_loss_does_not_count() -> None:
    state, _ = run((NEWS, 0), (Accepted(), 1))  # the key is on its way
    state, actions = step(state, Rewound(Position()), 2)
    assert actions == [Record(Position())]
    state, actions = step(state, Accepted(), 3)
    assert actions == [Send(Kind.INVENTORY, Position(1, 0))]


@pytest.mark.req("Q-23")
def test_a_deletion_overtakes_everything_and_a_group_of_the_same_name_begins_after_it() -> None:
    gone = Wanted(Position(1, 5, deleted=True))
    state, actions = run((NEWS, 0), (Failed(refused=False), 1), (gone, 2), (Accepted(), 3))
    assert actions[2] == [Send(Kind.DELETE, Position(1, 5, True))]
    assert state.settled
    state, actions = step(state, Wanted(Position(2, 6)), 4)
    assert actions == [Send(Kind.INVENTORY, Position(2, 5))]


KEY = Wanted(Position(version=5))


@pytest.mark.req("SEC-25")
def test_a_proof_counts_with_a_request_on_its_way_and_long_after_it_failed() -> None:
    proof = Confirmed(Position(version=5))
    state, actions = run((KEY, 0), (proof, 1))
    assert actions[1] == [Record(Position(version=5))] and state.settled
    failed = [(Failed(refused=False), 100.0), (Tick(), 200.0)] * 2
    state, actions = run((KEY, 0), *failed, (Failed(refused=False), 300.0), (proof, 301))
    assert actions[-1] == [Record(Position(version=5)), ClearAlarm()] and state.settled and state.failures == 0
    assert step(state, proof, 302) == (state, [])  # once more


@pytest.mark.req("SEC-25")
def test_a_proof_of_something_else_than_is_wanted_changes_nothing() -> None:
    for version in (4, 6):
        proof = Confirmed(Position(version=version))
        for state in (run((KEY, 0))[0], run((KEY, 0), (Failed(refused=True), 1))[0], run((KEY, 0), (Accepted(), 1))[0]):
            assert step(state, proof, 2) == (state, [])


def test_a_proof_that_crossed_a_loss_does_not_count() -> None:
    state, _ = run((KEY, 0), (Accepted(), 1), (Wanted(Position(version=6)), 2), (Rewound(Position()), 3))
    state, actions = step(state, Confirmed(Position(version=6)), 4)
    assert actions == [Send(Kind.KEY, Position(version=6))] and state.accepted == Position()


def test_what_is_asked_for_is_sent_at_once_even_after_a_refusal() -> None:
    refusing, _ = run((KEY, 0), (Failed(refused=True), 1))
    assert step(refusing, Asked(), 1.5)[1] == [Send(Kind.KEY, Position(version=5))]
    settled, _ = run((KEY, 0), (Accepted(), 1))
    assert step(settled, Asked(), 1.5)[1] == []


def test_an_answer_without_a_request_is_a_fault_of_the_caller() -> None:
    for event in (Accepted(), Failed(refused=False)):
        with pytest.raises(ValueError, match="nothing is on its way"):
            step(DeliveryQueue(), event, 0)


def test_the_failure_of_what_was_overtaken_delays_nothing() -> None:
    state, _ = run((NEWS, 0), (Wanted(Position(2, 6)), 1))
    state, actions = step(state, Failed(refused=True), 2)  # "a later list is stored already"
    assert actions == [Send(Kind.INVENTORY, Position(2, 0))]
    assert state.failures == 0
