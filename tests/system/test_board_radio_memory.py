"""The Python heap grows into the memory that Wi-Fi needs.

The memory is a model (keycast/virtual_board/on_vm/idf_heap.py): what a board does with it is shown here, not how much a
real one has.
"""

import asyncio

import pytest

from keycast.virtual_board.board import VirtualBoard
from tests.system.conftest import house_of
from tests.system.test_board_application import give, printed

SG = "home/lights"
FREE = 45056  # octets, as an ESP32 without PSRAM had left to Wi-Fi before its first EDHOC


@pytest.fixture
async def one(tmp_path):
    """A house with a board that is off, and the octets of heap that it uses before its first EDHOC."""
    async with house_of(tmp_path, 1) as house:
        [board] = house.boards.values()
        house.server.create_group(SG, open_to=["home"])
        await board.kill()
        await board.start(in_range=False)
        used = (await board.command("status"))["heap"]
        await board.kill()
        board.used = used
        board.memory = {"BOARD_IDF_HEAP": str(FREE), "BOARD_PYTHON_HEAP": str(used + 512)}
        yield board
        await board.kill()


async def status(board: VirtualBoard) -> dict:
    return await board.command("status")


async def test_what_is_held_back_keeps_the_radio_alive_when_the_heap_has_grown(one):
    await one.start(in_range=False, more=one.memory)
    assert (await status(one))["held"]
    await one.command("range", inside=True)
    await one.command("join", group=SG)
    await one.event("key", group=SG)
    async with asyncio.timeout(180):
        while (found := await status(one))["held"]:  # the board looks each second
            await asyncio.sleep(0.1)
    assert found["radio"] >= 8192
    assert not any("low-memory" in event.get("text", "") for event in one.events)


async def test_without_it_the_board_is_deaf_and_says_so(one):
    """Else the test above shows nothing."""
    grown = {"BOARD_PYTHON_HEAP": str(one.used - 2048)}  # before the first EDHOC, which may be quicker than the growth
    await one.start(in_range=False, more=one.memory | grown | {"BOARD_NO_UART": "1"})
    assert "1600 octets" in await one.line("keycast: low-memory")
    await one.command("range", inside=True)
    joining = asyncio.create_task(one.command("join", group=SG))
    async with asyncio.timeout(180):
        while not (await status(one))["air"].get("starved"):
            await asyncio.sleep(0.1)
    found = await status(one)
    assert not joining.done() and (found["held"], found["radio"]) == (False, 1600)
    joining.cancel()


@pytest.mark.parametrize("free", ["", "4000000", "20000"], ids=["not told", "PSRAM", "too little to share"])
async def test_nothing_is_held_back_where_that_is_of_no_use(one, free):
    await one.start(in_range=False, more={"BOARD_IDF_HEAP": free, "BOARD_PYTHON_HEAP": "500000"})
    assert not (await status(one))["held"]


POLL_FAILS = """
    import asyncio
    class Failing:
        def __init__(self, poller, times):
            self._poller, self._left = poller, times
        def ipoll(self, wait_ms):
            if self._left:
                self._left -= 1
                raise OSError(5)
            return self._poller.ipoll(wait_ms)
        def __getattr__(self, name):
            return getattr(self._poller, name)
    async def main(node):
        queue = asyncio.core._io_queue
        queue.poller = Failing(queue.poller, %d)
        await asyncio.sleep(0.01)
        print("went on", len(node.groups))
"""


async def test_a_poll_that_fails_for_want_of_memory_ends_nothing(one, tmp_path):
    give(one, tmp_path / "app", POLL_FAILS % 5)
    await one.start(up=False)
    await printed(one, "went on 0")
    assert one.exit_code is None


async def test_a_poll_that_fails_for_ever_lets_the_board_start_anew(one, tmp_path):
    give(one, tmp_path / "app", POLL_FAILS % 1000)
    await one.start(up=False)
    assert await one.ended() == 75
    assert any("EIO" in event.get("text", "") or "OSError" in event.get("text", "") for event in one.events)
