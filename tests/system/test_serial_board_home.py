"""A virtual board from its blank flash to its Group Key, with the programs that a person with an ESP32 uses.

The gateway and the board are processes of their own, on ports that no other house on this machine has.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keycast.free_ports import free_port
from keycast.virtual_board.named_board import WIFI_NAME, WIFI_PASSWORD
from keycast.virtual_board.ready_made import make_ready
from keycast.virtual_board.serial_board import SerialBoard
from tests.system.keycast_process import GatewayProcess
from tests.system.serial_tools import Terminal
from tests.system.test_serial_board_run import run, running

pytestmark = pytest.mark.real_time

APP = """
import asyncio

async def main(node):
    group = await node.join("home/lights")
    while not group.ended:
        print("joined", group.id)
        await asyncio.sleep_ms(100)
    print("no member any more:", group.ended)
"""


def prepared(home: Path, app: str = APP) -> None:
    """The board `porch`, on which the files of the agent, the application and the Wi-Fi are already."""
    board = SerialBoard(home / ".local/state/keycast/boards/porch", {})
    make_ready(board, app, (WIFI_NAME, WIFI_PASSWORD))


def gateway_in(folder: Path, **how: str) -> GatewayProcess:
    """A gateway that hears the boards' question where it is, as one on a network does."""
    return GatewayProcess(folder, address="0.0.0.0", port=free_port(), **how)


async def test_a_board_without_identity_is_paired_by_the_secret_on_its_line(tmp_path: Path) -> None:
    gateway = gateway_in(tmp_path)
    prepared(tmp_path)
    await gateway.start()
    try:
        assert (await run(tmp_path, "group", "create", "home/lights", "--open-to", "home", "-c", str(gateway.config)))[
            0
        ] == 0
        async with running(tmp_path, "-c", str(gateway.config)) as (told, _), Terminal(told["port"]) as terminal:
            await terminal.until(b"keycast: pairing-secret ")
            secret = (await terminal.until(b"\r\n")).split()[-1].decode()
            assert (await run(tmp_path, "board", "pair", "lamp.porch", secret, "-c", str(gateway.config)))[0] == 0
            await terminal.until(b"paired: lamp.porch")
            await terminal.until(b"joined home/lights\r\n")
    finally:
        await gateway.stop()


async def test_three_commands_from_a_blank_flash_to_a_group_key_and_one_out_of_the_home_again(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    gateway = gateway_in(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "password").write_text(WIFI_PASSWORD)
    config = ("-c", str(gateway.config))

    async def done(*words: str) -> None:
        code, printed = await run(tmp_path, *words)
        assert code == 0, printed

    await gateway.start()
    try:
        await done("group", "create", "home/lights", "--open-to", "home", *config)
        async with running(tmp_path, *config) as (told, _):
            plugged_in = time.monotonic()
            wifi = ("--wifi", WIFI_NAME, "--wifi-password-file", str(tmp_path / "password"))
            await done("board", "list", *config)
            await done("board", "flash", "--port", "porch", "--app", str(tmp_path / "app.py"))
            await done("board", "provision", "lamp.porch", "--port", "porch", *wifi, *config)
            async with Terminal(told["port"]) as terminal:
                await terminal.until(b"joined home/lights\r\n")
                record_property("seconds_to_first_key", round(time.monotonic() - plugged_in))
                terminal.type(b"keycast: who\n")
                assert b'"pne_id": "lamp.porch"' in await terminal.until(b"}\r\n")
                terminal.type(b"keycast: end\n")
                await terminal.until(b"keycast: ended\r\n")
                assert b"rst:0xc (SW_CPU_RESET)" in await terminal.until(b"keycast: start: ")
                await terminal.until(b"joined home/lights\r\n")
        async with running(tmp_path, *config) as (told, _), Terminal(told["port"]) as terminal:  # after a power cut
            await terminal.until(b"joined home/lights\r\n")
            await done("group", "expel", "home/lights", "lamp.porch", *config)
            await terminal.until(b"no member any more: expelled\r\n")
    finally:
        await gateway.stop()
