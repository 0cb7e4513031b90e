"""What becomes of a board after its start is read from its serial line."""

import itertools
import re

import pytest

from keycast.board import first_run
from keycast.board.first_run import RUNNING, BoardState, settled
from keycast.places import BOARD_FILES

START = ["ets Jul 29 2019", "keycast: start: any key within 2 s for the REPL", "keycast: connecting it looks"]


def lines(*said, seconds=60.0):
    """The lines that a board prints, and silence for so many seconds, as `Repl.lines` shows it."""
    yield from [*START, *said]
    for _ in range(int(seconds / 0.05)):
        yield ""


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Each look at the clock takes a twentieth of a second."""
    ticks = itertools.count()
    monkeypatch.setattr(first_run.time, "monotonic", lambda: next(ticks) / 20)


def test_a_board_that_runs_is_seen_at_once():
    def unread():
        yield "keycast: running the session with the gateway stands"
        raise AssertionError("nothing more is read")

    assert settled(itertools.chain(lines(seconds=0), unread())) == BoardState(
        RUNNING, "the session with the gateway stands"
    )


@pytest.mark.parametrize("code", sorted(first_run._NEXT))
def test_a_hindrance_that_lasts_is_told_with_the_next_step(code):
    state = settled(lines(f"keycast: {code} a sentence"))
    assert (state.code, state.sentence) == (code, "a sentence")
    assert state.next_step in first_run._NEXT.values()


def test_a_hindrance_that_passes_is_none():
    said = ["keycast: no-gateway none answers", *[""] * 100, "keycast: running all is well"]
    assert settled(lines(*said)).code == RUNNING


def test_what_a_board_says_last_counts_when_nothing_lasts():
    assert settled(lines()) == BoardState("connecting", "it looks")
    assert settled(iter(["noise", ""])) == BoardState("", "")
    assert "monitor" in BoardState("", "").next_step


def test_each_code_that_has_a_next_step_is_one_that_boards_tell():
    told = re.findall(r'^    "([a-z-]+)": \(', (BOARD_FILES / "status_lines.py").read_text(), re.MULTILINE)
    assert set(first_run._NEXT) <= set(told) and RUNNING in told
