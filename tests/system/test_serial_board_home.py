"""A virtual board from its blank flash to its Group Key, with the programs that a person with an ESP32 uses.

The gateway and the board are processes of their own, on ports that no other house on this machine has.
"""

import socket
from pathlib import Path

import pytest

from cpns import cborlite
from keycast.virtual_board.named_board import WIFI_NAME, WIFI_PASSWORD
from tests.system.keycast_process import GatewayProcess
from tests.system.serial_tools import Terminal, tool
from tests.system.test_serial_board_run import run, running

pytestmark = pytest.mark.real_time

APP = """
async def main(node):
    group = await node.join("home/lights")
    print("joined", group.id)
    async for message in group:
        print(message.sender, message.data)
    print("no member any more:", group.ended)
"""
WIFI = """
import nvs_store
from device_agent.key_store import KeyStore
KeyStore(nvs_store.NvsStore()).save("wifi", %r)
"""


async def test_from_a_blank_flash_to_a_group_key_and_out_of_the_home_again(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        free = probe.getsockname()[1]
    gateway = GatewayProcess(tmp_path, address="0.0.0.0", port=free)
    config = ("-c", gateway.config)

    async def done(*words: str | Path) -> str:
        code, printed = await run(tmp_path, *map(str, words))
        assert code == 0, printed
        return printed

    await gateway.start()
    try:
        await done("group", "create", "home/lights", "--open-to", "home", *config)
        await done("board", "files", tmp_path / "files")
        await done("board", "provision", "lamp.porch", "-o", tmp_path / "porch.py", *config)
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "wifi.py").write_text(WIFI % cborlite.encode([1, WIFI_NAME, WIFI_PASSWORD]))
        async with running(tmp_path, "-c", str(gateway.config)) as (told, _):
            port = told["port"]
            for module, *words in (
                ("esptool", "--port", port, "--before", "no-reset", "write-flash", "0x1000", told["firmware"]),
                ("mpremote", "connect", port, "romfs", "deploy", tmp_path / "files" / "board.romfs"),
                ("mpremote", "connect", port, "run", tmp_path / "wifi.py", "run", tmp_path / "porch.py"),
                ("mpremote", "connect", port, "fs", "cp", tmp_path / "files" / "main.py", tmp_path / "app.py", ":"),
            ):
                code, printed = await tool(module, *words)
                assert code == 0, printed
            async with Terminal(port) as terminal:
                terminal.type(b"import machine\rmachine.reset()\r")
                await terminal.until(b"keycast: start: ")
                await terminal.until(b"joined home/lights\r\n")
                terminal.type(b"keycast: who\n")
                assert b'"pne_id": "lamp.porch"' in await terminal.until(b"}\r\n")
                terminal.type(b"keycast: end\n")
                await terminal.until(b"keycast: ended\r\n")
                assert b"rst:0xc (SW_CPU_RESET)" in await terminal.until(b"keycast: start: ")
                await terminal.until(b"joined home/lights\r\n")
        async with running(tmp_path, "-c", str(gateway.config)) as (told, _), Terminal(told["port"]) as terminal:
            await terminal.until(b"joined home/lights\r\n")  # after a power cut
            await done("group", "expel", "home/lights", "lamp.porch", *config)
            await terminal.until(b"no member any more: expelled\r\n")
    finally:
        await gateway.stop()
