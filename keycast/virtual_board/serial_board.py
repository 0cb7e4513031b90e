"""One virtual board with a serial port: what a tool does to a board on USB, it does to this one.

    board = SerialBoard(folder)
    await board.power_on()
    board.line.device        # for mpremote, esptool, keycast board
    await board.power_off()

The port stays while the board resets. There are no wires DTR and RTS: see `on_line`.
"""

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path

from keycast.micropython_vm import board_files, compile
from keycast.virtual_board.board import ON_VM
from keycast.virtual_board.flash_chip import FlashChip, Part
from keycast.virtual_board.serial_line import SerialLine
from keycast.virtual_board.vm_process import VmProcess

FLASH_OCTETS = 4 << 20
ROMFS = Part("romfs.bin", 0x1E0000, 0x20000)
VFS = Part("vfs", 0x200000, 0x200000)
TREE = compile.MPY / "serial"
HARDWARE_IMAGE = compile.MPY / "serial.romfs"
_NOT_HERE = ("app.py", "power_on.py")  # of boards that are commanded by JSON
_RESET, _SOFT_RESET, _SOFT_RESET_RAW = 75, 76, 77  # on_vm/machine.py


class SerialBoard:
    """A board whose flash is in `folder`. `environment` tells its modules their address and ports (on_vm/air.py)."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.flash = FlashChip(folder, FLASH_OCTETS, (ROMFS,), VFS)
        self.line: SerialLine
        self._environment = environment
        self._vm: VmProcess | None = None
        self._is_on = False
        self._starting: asyncio.Task[None] | None = None

    async def power_on(self) -> None:
        """Plug the board in. Its port is there on return. Raises OSError, NoVm, CompileError."""
        build()
        self.line = SerialLine(self._received, self._closed)
        self._is_on = True
        await self._start_vm()

    async def power_off(self) -> None:
        """Unplug the board, at any instruction."""
        self._is_on = False
        if self._starting is not None:
            await self._starting
        if self._vm is not None:
            await self._vm.kill()
        self.line.close()

    async def _start_vm(self, raw: bool = False) -> None:
        self._vm = vm = VmProcess(self.line.send, self._ended)
        await vm.start(
            {
                **self._environment,
                "MICROPYPATH": f"{TREE}:.frozen",
                "BOARD_HARDWARE": str(HARDWARE_IMAGE),
                "BOARD_ROM": str(self.flash.path(ROMFS.path)),
                "BOARD_VFS": str(self.flash.vfs),
                "BOARD_NVS": str(self.flash.path("nvs")),
                "BOARD_RAW": "1" if raw else "",
            },
            self.folder,
        )

    def _ended(self, code: int) -> None:
        if self._is_on:
            self._starting = asyncio.get_running_loop().create_task(self._start_vm(code == _SOFT_RESET_RAW))

    def _received(self, octets: bytes) -> None:
        if self._vm is not None:
            self._vm.send(octets)

    def _closed(self) -> None:
        pass


@functools.cache
def build() -> None:
    """Compile the modules that stand in for the hardware of such a board. It runs once in a process."""
    sources = [compile.ON_VM / "rom.py", *sorted(ON_VM.glob("*.py"))]
    files = {source.name: source for source in sources if source.name not in _NOT_HERE}
    compile.compile_tree(files, TREE, board_files.LEVEL)
    compile.write_image(TREE, HARDWARE_IMAGE)
