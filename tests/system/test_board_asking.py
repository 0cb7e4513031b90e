"""What `keycast board list` says of virtual boards in each state: the real MicroPython and the real agent answer."""

import asyncio
from pathlib import Path

import pytest

from device_agent import tuning
from keycast.board import asking, flashing
from keycast.board.asking import AskedBoard
from keycast.board.flashing import FlashOrder, Told
from keycast.board.ports import Port
from keycast.board.provisioning import Wifi
from keycast.hardware.catalogue import VIRTUAL, virtual_board
from keycast.micropython_vm import compile
from keycast.virtual_board import loopback
from keycast.virtual_board.serial_board import SerialBoard
from tests.system.serial_tools import plugged_in

pytestmark = pytest.mark.real_time

SILENT = Told(lambda _: None, lambda _: None, lambda _: None)


NETWORK = {
    "BOARD_ADDRESS": "127.0.64.77",
    "BOARD_PORT": str(loopback.board_port()),
    "BOARD_BROADCAST_PORT": str(loopback.broadcast_port()),
    "BOARD_WIFI_NAME": "another network",
}


async def ask(board: SerialBoard) -> AskedBoard:
    """Ask while the board goes on."""
    return await asyncio.to_thread(asking.ask, board.line.device)


async def flash(board: SerialBoard, wifi: Wifi | None = None) -> None:
    """Put the agent's files onto a board with firmware."""
    compile.compile_board()
    port = Port(board.line.device, None, None, "lamp")
    order = FlashOrder((), compile.BOARD_TREE, wifi=wifi)
    await asyncio.to_thread(flashing.flash, port, order, {VIRTUAL: virtual_board()}, SILENT)


async def test_a_blank_flash(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        assert (await ask(board)).runs == "nothing"


async def test_micropython_without_our_files(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        assert await ask(board) == AskedBoard("micropython", "1.25.0", "esp32")
        assert await ask(board) == AskedBoard("micropython", "1.25.0", "esp32")


async def test_an_agent_that_has_no_gateway_is_started_again(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await flash(board)
        for _ in range(2):
            assert await ask(board) == AskedBoard("waiting agent", state="unprovisioned")


async def test_a_running_agent_goes_on(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board", **NETWORK) as board:
        await flash(board, Wifi("a network that is not here", "its password"))
        pause_s = 0.1
        async with asyncio.timeout(240):
            while (found := await ask(board)).runs != "agent":
                await asyncio.sleep(pause_s)
                pause_s *= 2  # a question while it starts lets it start anew, and on a busy machine that takes long
        assert (found.agent, found.micropython, found.group_count) == (tuning.SOFTWARE, "1.25.0", 0)
        assert found.pne_id and found.gateway_id == "" and found.cleared is not None
        assert (await ask(board)).runs == "agent"
