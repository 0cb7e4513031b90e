"""The loader in the ROM of a virtual board, with esptool as a program, for the chip of each board that we know."""

import hashlib
import random
from pathlib import Path

import pytest

from keycast.hardware.board import Board
from keycast.hardware.catalogue import all_boards, virtual_board
from keycast.virtual_board import firmware
from keycast.virtual_board.chips import CHIPS
from tests.system.serial_tools import Terminal, esptool, mpremote, plugged_in, run_on, tool

pytestmark = pytest.mark.real_time

BY_CHIP = {board.chip.name: board for board in all_boards().values()}
each_chip = pytest.mark.parametrize("kind", BY_CHIP.values(), ids=BY_CHIP)
CHIP_NAMES = {"esp32": "ESP32", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3", "esp32c6": "ESP32-C6"}
MAC = "02:00:00:00:00:2a"
LAYOUT = virtual_board().firmware[0]


@each_chip
async def test_esptool_knows_the_chip_and_writes_its_firmware_which_then_runs(tmp_path: Path, kind: Board) -> None:
    chip = CHIPS[kind.chip.name]
    image = tmp_path / "image.bin"
    image.write_bytes(firmware.image(chip, LAYOUT))
    async with plugged_in(tmp_path / "board", kind, flashed=False, BOARD_MAC=MAC.replace(":", "")) as board:
        async with Terminal(board.line.device) as terminal:
            await terminal.until(b"invalid header: 0xffffffff\r\n")
        told = await esptool(board, "write-flash", hex(kind.chip.firmware_offset), image)  # with its program in the RAM
        assert f"Connected to {CHIP_NAMES[kind.chip.name]} on" in told
        assert MAC in told and "Stub flasher running" in told and "Hash of data verified" in told
        assert await mpremote(board, "exec", "print(6 * 7)") == "42\r\n"  # the port was closed: the board was reset


@each_chip
async def test_the_rom_alone_reads_and_writes_the_flash(tmp_path: Path, kind: Board) -> None:
    octets = random.Random(2).randbytes(5000)
    (tmp_path / "some.bin").write_bytes(octets)
    async with plugged_in(tmp_path / "board", kind, flashed=False) as board:
        told = await esptool(board, "--no-stub", "flash-id")
        assert f"Detected flash size: {kind.flash_mib}MB" in told
        for how in ("--compress", "--no-compress"):
            assert "Hash of data verified" in await esptool(
                board, "--no-stub", "write-flash", how, "0x300000", tmp_path / "some.bin"
            )
        await esptool(board, "--no-stub", "read-flash", "0x300000", "600", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == octets[:600] == board.flash.read(0x300000, 600)


async def test_esptool_reads_the_whole_flash_and_erases_it_with_all_files_and_keys(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await mpremote(board, "exec", "open('/secret.txt', 'w').write('secret')")
        board.flash.write(0x9000, b"a key")
        await esptool(board, "read-flash", "0", "0x20000", tmp_path / "read.bin")
        assert (tmp_path / "read.bin").read_bytes() == board.flash.read(0, 0x20000)
        await esptool(board, "erase-flash")
        assert hashlib.sha256(board.flash.read(0, 4 << 20)).digest() == hashlib.sha256(b"\xff" * (4 << 20)).digest()
        assert not list(board.flash.vfs.iterdir())


async def test_a_tool_gets_into_the_loader_while_a_program_runs(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await run_on(board, "while True: print('busy')")
        assert "ESP32" in await esptool(board, "--no-stub", "read-mac")


async def test_the_wrong_chip_is_told(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        code, told = await tool("esptool", "--port", board.line.device, "--chip", "esp32c3", "--no-stub", "flash-id")
    assert code and "This chip is ESP32, not ESP32-C3" in told


async def test_the_buttons(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board, Terminal(board.line.device) as terminal:
        await terminal.prompt()
        board.reset(into_loader=True)
        await terminal.until(b"waiting for download\r\n")
        board.reset()
        await terminal.until(b"rst:0x1 (POWERON_RESET)")
        await terminal.until(b">>> ")
        terminal.type(b"import machine\rboot = machine.Pin(0, machine.Pin.IN)\r")
        for down in (True, False):
            board.press(down=down)
            terminal.type(b"boot.value()\r")
            await terminal.until(b"boot.value()\r\n%d\r\n" % (not down))
