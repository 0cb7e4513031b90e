"""How a board starts and ends: the window for tools, the count of failed starts, the state that it tells, its console.

Everything here runs in the MicroPython VM with the files that go to a board.
"""

import json

import pytest

from keycast.virtual_board import board
from keycast.virtual_board.board import VirtualBoard
from tests.system.test_virtual_board import record

FIRST_NUMBER = 12_400  # 127.0.113.x: nobody else's in this project
WINDOW = {"BOARD_WINDOW_MS": "2000"}
WAITS = "keycast: waiting for a tool"
FAILS = """
    import asyncio
    async def main(node):
        asyncio.core._io_queue.poller = None  # an error of the loop, which ends the agent
"""


@pytest.fixture(scope="module", autouse=True)
def built():
    board.build()


@pytest.fixture
async def one(tmp_path):
    made = VirtualBoard.create(tmp_path / "board", FIRST_NUMBER, record("lamp"))
    yield made
    await made.kill()


async def test_an_octet_in_the_window_leads_to_the_repl_and_the_agent_does_not_start(one):
    await one.start(up=False, more=WINDOW)
    await one.event("print", text="keycast: start: any key within 2 s for the REPL")
    one.type(b"\r")
    await one.event("print", text=WAITS)
    assert await one.ended() == 0  # main.py has come to its end: on a board the REPL follows
    assert not any(event["event"] == "up" for event in one.events)


async def test_a_tool_asks_who_the_board_is(one):
    await one.start()
    one.type(b"keycast: who\n")
    told = json.loads(await one.line("keycast: who "))
    print(told)


async def test_a_tool_asks_for_the_end(one):
    await one.start()
    one.type(b"keycast: end\n")
    await one.event("print", text="keycast: ended")
    assert await one.ended() == board.RESET_CODE
