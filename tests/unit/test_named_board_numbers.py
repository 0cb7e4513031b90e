"""The numbers of virtual boards, of which their addresses are made: no two that run on a computer have the same one."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keycast.claims import claim
from keycast.virtual_board import named_board
from keycast.virtual_board.named_board import VirtualBoardRefused

Plug = Callable[[str, str], int]
ANOTHER_PROCESS = "import sys; from keycast.claims import claim; print(claim(sys.argv[1]) is not None)"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """What holds the numbers of the boards that run."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> Plug:
    """(user, board) -> the number under which that board runs until `stack` is closed.

    Boards that run on this computer meanwhile are not of this test.
    """
    monkeypatch.setattr(named_board, "claim", lambda what: claim(f"test {os.getpid()} {what}"))

    def plug(user: str, board: str) -> int:
        monkeypatch.setattr(named_board, "FLASHES", tmp_path / user)
        folder = tmp_path / user / board
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (tmp_path / user).chmod(0o700)
        return named_board._number(folder, stack)

    return plug


def test_boards_of_two_users_that_run_at_once_have_different_numbers(plug: Plug) -> None:
    assert len({plug("ann", "porch"), plug("ann", "hall"), plug("bob", "porch"), plug("bob", "hall")}) == 4


def test_a_board_keeps_its_number_unless_another_user_s_board_runs_under_it(
    plug: Plug, stack: contextlib.ExitStack
) -> None:
    number = plug("ann", "porch")
    stack.close()
    assert plug("ann", "porch") == number
    stack.close()
    assert plug("bob", "porch") == number  # it is the lowest that is free while Ann's does not run
    other = plug("ann", "porch")
    assert other != number
    stack.close()
    assert (plug("ann", "porch"), plug("bob", "porch")) == (other, number)


def test_without_a_free_number_it_says_so(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    number = plug("ann", "porch")
    monkeypatch.setattr(named_board, "_NUMBERS", range(number, number + 1))
    with pytest.raises(VirtualBoardRefused, match="All 1 addresses of virtual boards on this computer are taken"):
        plug("bob", "porch")


def test_another_process_does_not_get_what_is_claimed() -> None:
    def is_claimed_elsewhere() -> str:
        command = [sys.executable, "-c", ANOTHER_PROCESS, f"test {os.getpid()}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    held = claim(f"test {os.getpid()}")
    assert held is not None and is_claimed_elsewhere() == "False"
    held.close()
    assert is_claimed_elsewhere() == "True"
