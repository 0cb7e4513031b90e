"""A board is brought to its REPL from whatever runs on it, and runs programs there."""

import threading

import pytest

from keycast.board import repl
from keycast.board.faults import BoardSilent
from keycast.board.repl import BoardAnswered, Repl
from tests.unit.fake_repl import FakeBoard

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("paste", [True, False], ids=["raw paste", "raw"])
@pytest.mark.parametrize("state", ["repl", "raw", "agent"])
def test_a_program_runs_whatever_runs_on_the_board(state, paste):
    with FakeBoard(state, paste=paste) as board, Repl(board.port) as found:
        text = f"print({'1 + ' * 200}1)\nprint('ü')"  # longer than a window of raw paste, and not only ASCII
        assert found.run(text) == "201\nü\n"
        assert found.run("") == ""
        assert board.programs[0] == text
        assert board.starts == (state == "agent")


def test_the_exception_of_a_program_is_its_last_line():
    with FakeBoard() as board, Repl(board.port) as found:
        with pytest.raises(BoardAnswered, match=r"^OSError: \[Errno 28\] no room$") as caught:
            found.run("print('before')\nraise OSError(28, 'no room')")
        assert (caught.value.kind, caught.value.number) == ("OSError", 28)
        with pytest.raises(BoardAnswered, match="ValueError") as caught:
            found.run("raise ValueError(5)")
        assert caught.value.number is None
        assert found.run("print(1)") == "1\n"


def test_an_agent_that_was_ended_for_a_tool_runs_after_the_start_that_the_tool_makes():
    with FakeBoard("agent") as board:
        board.agent = lambda: ["keycast: running all is well"] if board.starts else []
        with Repl(board.port) as found:
            found.start()
            assert any(line == "keycast: running all is well" for line in found.lines(30))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_a_board_whose_tool_gives_up_runs_again(fault):
    with FakeBoard() as board:
        runs = threading.Event()
        board.agent = lambda: runs.set() or []
        with pytest.raises(fault), Repl(board.port):
            raise fault
        assert runs.wait(60)


def test_a_restart_comes_back_into_the_repl_and_a_start_does_not():
    with FakeBoard() as board:
        board.agent = lambda: ["hello", "keycast: running all is well"]
        with Repl(board.port) as found:
            found.run("kept = 1")
            found.restart()
            with pytest.raises(BoardAnswered, match="NameError"):
                found.run("print(kept)")
            found.start()
            lines = found.lines(30)
            assert next(line for line in lines if "running" in line) == "keycast: running all is well"
        assert (board.starts, board.state) == (2, "agent")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"", "Nothing comes from the board"),
        (b"42\r\n43\r\n", "does not let go"),
        (b"waiting for download\r\n", "waits in its boot loader"),
        (b"rst:0x8 (TG1WDT_SYS_RESET)\r\n", "watchdog"),
        (b"invalid header: 0xffffffff\r\n", "has no program"),
        (b"Brownout detector was triggered\r\n", "too little power"),
    ],
)
def test_a_board_that_does_not_come_to_its_repl_is_a_sentence(says, words, monkeypatch):
    monkeypatch.setattr(repl, "REACH_S", 0.6)
    with FakeBoard("busy" if says else "silent") as board:
        board.says = says
        with pytest.raises(BoardSilent, match=words) as caught, Repl(board.port):
            pass
        assert caught.value.next_step.endswith((".", "keycast board flash"))


def test_a_board_that_stops_answering_in_its_repl_is_a_sentence():
    with FakeBoard() as board, Repl(board.port) as found, pytest.raises(BoardSilent, match="goes on where it was"):
        found.run("import time; time.sleep(2)", timeout_s=0.2)
