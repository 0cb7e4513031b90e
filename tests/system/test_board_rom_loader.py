"""The boot loader of each chip that we know, simulated, with esptool as a real program."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keycast.board import image, ports, rom_loader
from keycast.board.faults import LoaderFault, NoPort
from keycast.board.ports import Port
from keycast.board.rom_loader import FoundChip, RomLoader
from keycast.hardware.board import Board
from keycast.hardware.catalogue import all_boards, virtual_board
from keycast.virtual_board import firmware
from keycast.virtual_board.chips import CHIPS
from keycast.virtual_board.serial_board import SerialBoard
from tests.system.serial_tools import plugged_in

pytestmark = pytest.mark.real_time

BOARDS = all_boards()
BY_CHIP = {board.chip.name: board for board in BOARDS.values()}
LAYOUT = virtual_board().firmware[0]
MIB = 1024 * 1024


def lamp(board: SerialBoard) -> Port:
    """The port of a virtual board."""
    return Port(board.line.device, None, None, "lamp")


def image_of(kind: Board, folder: Path) -> image.FirmwareImage:
    path = folder / "fw.bin"
    path.write_bytes(firmware.image(CHIPS[kind.chip.name], LAYOUT))
    return image.read(path, BOARDS)


async def done(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call what waits for a program while the board goes on."""
    return await asyncio.to_thread(work, *arguments, **named)


@pytest.mark.parametrize("kind", BY_CHIP.values(), ids=BY_CHIP)
async def test_a_chip_is_known_and_its_firmware_written(tmp_path: Path, kind: Board) -> None:
    found = image_of(kind, tmp_path)
    seen: list[float] = []
    async with plugged_in(tmp_path / "board", kind, flashed=False) as board:
        board.flash.write(0x9000, b"the identity")
        loader = RomLoader(lamp(board))
        chip = await done(loader.enter)
        assert chip == FoundChip(kind.chip.name, kind.flash_mib * MIB)
        image.require_fit(found, kind, chip.name, chip.flash_octets)
        await done(loader.write, chip, found.parts, progress=seen.append)
        for part in found.parts:
            assert board.flash.read(part.offset, len(part.octets)) == part.octets
        assert board.flash.read(0x9000, 12) == b"the identity"
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 2


async def test_all_of_the_flash_is_erased_if_that_is_wanted(tmp_path: Path) -> None:
    found = image_of(BY_CHIP["esp32"], tmp_path)
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        board.flash.write(0x9000, b"the identity")
        loader = RomLoader(lamp(board))
        await done(loader.write, await done(loader.enter), found.parts, erase=True)
        assert board.flash.read(0x9000, 12) == b"\xff" * 12


async def test_a_board_that_is_left_starts_what_is_on_it(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        loader = RomLoader(lamp(board))
        await done(loader.enter)
        await done(loader.leave)
        assert board.flash.read(0x1000, 1) == b"\xe9"


@pytest.fixture
def silent() -> Any:
    """A port on which nothing answers."""
    front, back = os.openpty()
    yield Port(os.ttyname(back), None, None, "lamp")
    os.close(front)
    os.close(back)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_that_does_not_enter_its_boot_loader_has_its_buttons_named(name: str, silent: Port) -> None:
    loader = RomLoader(silent, how=BOARDS[name].enter_boot_loader, attempts=1)
    with pytest.raises(LoaderFault) as caught:
        loader.enter()
    assert "does not enter its boot loader" in caught.value.what
    assert BOARDS[name].enter_boot_loader in caught.value.next_step


def test_a_port_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rom_loader, "back_again", lambda port: ports.back_again(port, wait_s=0.0))
    with pytest.raises(NoPort):
        RomLoader(Port("/dev/no-such-port", "10c4:ea60", None, "/dev/no-such-port", "9-9")).enter()


async def test_a_board_that_comes_back_under_another_name_is_followed(
    tmp_path: Path, silent: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MicroPython with the chip's own USB does, when it is led into the boot loader."""
    async with plugged_in(tmp_path / "board") as board:
        monkeypatch.setattr(rom_loader, "back_again", lambda _: lamp(board))
        loader = RomLoader(silent, attempts=1)
        assert (await done(loader.enter)).name == "esp32"
        assert loader.port == lamp(board)


async def test_a_flash_that_does_not_keep_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = image_of(BY_CHIP["esp32"], tmp_path)
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        loader = RomLoader(lamp(board), how="Hold BOOT.")
        chip = await done(loader.enter)
        monkeypatch.setattr(board.flash, "write", lambda *_: None)
        with pytest.raises(
            LoaderFault, match=r"The firmware is not on the board .*region is empty.*--baud 115200. Hold BOOT"
        ):
            await done(loader.write, chip, found.parts)


def test_a_port_that_goes_away_while_the_flash_is_written(tmp_path: Path) -> None:
    gone = RomLoader(Port("/dev/no-such-port", "10c4:ea60", None, "/dev/no-such-port"), how="Hold BOOT.")
    found = image_of(BY_CHIP["esp32"], tmp_path)
    with pytest.raises(
        LoaderFault, match=r"is not on the board on /dev/no-such-port: its port went away\. .*Hold BOOT"
    ):
        gone.write(FoundChip("esp32", None), found.parts)
