"""What `keycast board provision` sends to the REPL of a board, whose heap is small."""

from __future__ import annotations

from keycast.board import provisioning
from tests.unit import test_board_provisioning as desk
from tests.unit.test_board_provisioning import BoardHere, Door, make

app, door, radio_first = desk.app, desk.door, desk.radio_first


async def test_the_functions_are_sent_once_for_each_start_of_the_board(door: Door) -> None:
    """A board compiles them on a heap that is not in pieces, and each call that follows is one short line."""
    board, functions = BoardHere(), provisioning._PROGRAM.read_text()
    make(door, board)
    starts = [at for at, program in enumerate(board.programs) if program == functions]
    assert starts == [0, board.programs.index("confirm()\n") - 1]
    assert all(program.count("\n") == 1 for at, program in enumerate(board.programs) if at not in starts)
