"""When which board begins to pull an update."""

from gateway_agent.updates import limits


def test_boards_that_pull_take_turns() -> None:
    turns = limits.PullTurns()
    waits = [turns.wait_s(f"board{at}", b"id", 110, 1000.0) for at in range(100)]
    assert waits[0] == 0 and waits[-1] == round(99 * 1.1)
    assert [turns.wait_s(f"board{at}", b"id", 110, 1000.0) for at in range(100)] == waits
    assert turns.wait_s("board99", b"id", 110, 1000.0 + 109) == 0
    assert turns.wait_s("last", b"id", 10**9, 1000.0) and turns.wait_s("never", b"id", 1, 1000.0) == limits.TURN_MAX_S


def test_turns_of_what_is_withdrawn_hold_up_nobody() -> None:
    turns = limits.PullTurns()
    for at in range(100):
        turns.wait_s(f"board{at}", b"old", 110, 1000.0)
    turns.forget_update(b"old")
    assert [turns.wait_s(f"board{at}", b"new", 110, 1000.0) for at in range(2)] == [0, 1]
