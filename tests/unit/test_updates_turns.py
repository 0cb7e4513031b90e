"""When which board begins to pull an update."""

import pytest

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


def test_a_board_that_asks_again_during_an_airing_keeps_its_turn_after_it() -> None:
    turns = limits.PullTurns()
    waits = [turns.wait_s(name, b"id", 1000, 1000.0, 1060.0) for name in ("lamp", "door", "lamp", "door")]
    assert waits == [60, 70, 60, 70]
    assert turns.wait_s("lamp", b"id", 1000, 1000.0, 1065.0) == 80  # the airing ends later, as a key was on the air


def test_turns_of_so_many_boards_are_remembered_and_the_oldest_are_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BOARDS_MAX", 2)
    turns = limits.PullTurns()
    first, second = (turns.wait_s(name, b"id", 1000, 1000.0) for name in ("lamp", "door"))
    assert (first, second) == (0, 10) == tuple(turns.wait_s(name, b"id", 1000, 1000.0) for name in ("lamp", "door"))
    assert turns.wait_s("desk", b"id", 1000, 1000.0) == 20
    assert [turns.wait_s(name, b"id", 1000, 1000.0) for name in ("door", "lamp")] == [10, 30]
