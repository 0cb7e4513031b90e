"""The benchmark of updates counts a board as done when it has the whole update, not when it restarts for its heap."""

import pytest

from keycast.virtual_board.board import RESET_CODE
from tools.bench.update_house import RESTARTS_MAX, kept_on


def told(state, number=7):
    return {"event": "update", "state": state, "number": number, "reason": 0}


class Board:
    """One that ends as often as there are `lives`: the events of each, and its exit code."""

    def __init__(self, *lives):
        self._lives = list(lives)
        self.events, self.started = [], []

    async def ended(self, timeout_s):
        events, code = self._lives.pop(0)
        self.events += events
        return code

    async def start(self, **how):
        self.started.append(how)


async def test_a_board_with_the_whole_update_is_done():
    board = Board(([told("collecting"), told("waiting")], RESET_CODE))
    assert await kept_on(board, 7) == 0 and not board.started


async def test_one_that_restarts_for_its_heap_is_started_again_as_it_was_and_counted():
    first = [told("collecting"), told("waiting", number=6)]  # of another update
    board = Board((first, RESET_CODE), ([told("waiting")], RESET_CODE))
    assert await kept_on(board, 7, loss=0.2, seed=3) == 1
    assert board.started == [{"up": False, "loss": 0.2, "seed": 3}]


async def test_one_that_ends_otherwise_or_restarts_for_ever_fails_the_measurement():
    with pytest.raises(AssertionError, match="ended with 1"):
        await kept_on(Board(([told("waiting")], 1)), 7)
    with pytest.raises(AssertionError, match="again and again"):
        await kept_on(Board(*[([], RESET_CODE)] * (RESTARTS_MAX + 1)), 7)
