"""One virtual board with a serial port: what a tool does to a board on USB, it does to this one.

    board = SerialBoard(folder, environment)
    await board.power_on()
    board.line.device        # for mpremote, esptool, keycast board
    await board.power_off()

The port stays while the board resets. A pseudo-terminal has no wires DTR and RTS: the first request of a tool to the
loader in the ROM stands for the reset into it, and a tool that closes the port stands for the reset out of it.
"""

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from keycast.hardware.board import Board, Partition
from keycast.hardware.catalogue import virtual_board
from keycast.micropython_vm import board_files, compile
from keycast.micropython_vm.vm import NoVm
from keycast.virtual_board import boot_rom, firmware
from keycast.virtual_board.board import ON_VM
from keycast.virtual_board.chips import CHIPS
from keycast.virtual_board.download_mode import SYNC_FRAME, DownloadMode
from keycast.virtual_board.flash_chip import FlashChip, Part
from keycast.virtual_board.serial_line import SerialLine
from keycast.virtual_board.vm_process import VmProcess
from private_store import folders

TREE = compile.MPY / "serial"
HARDWARE_IMAGE = compile.MPY / "serial.romfs"
_NOT_HERE = ("app.py", "power_on.py")  # of boards that are commanded by JSON
# Partitions that the running board has open
_FILES = {"nvs": "nvs/nvs.bin", "romfs": "romfs.bin", "romfs_slots": "romfs-slots.bin"}
_RESET, _SOFT_RESET, _SOFT_RESET_RAW = 75, 76, 77  # on_vm/machine.py
_WATCHDOG = -signal.SIGALRM
_PAUSE_S = 1.0  # before a chip on which nothing starts is reset again
_MAC = "020000000001"
_PINS, _BOOT_PIN = "pins", 0
_MIB = 1 << 20

Order = Callable[[], Awaitable[None]]


class SerialBoard:
    """A board whose flash is in `folder`. `environment` tells its modules their address and ports (on_vm/air.py).

    `kind` is the file of the board that it is: one of another chip has that chip's ROM. Once it is on, it has `line`,
    the port, and `failed`, whose result is an error for which its program cannot be started any more.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], kind: Board | None = None) -> None:
        self.folder = folder
        kind = kind or virtual_board()
        self.chip = CHIPS[kind.chip.name]
        layout = virtual_board().firmware[0]
        parts = {row.name: _part(row) for row in layout.partitions}
        self.flash = FlashChip(folder, kind.flash_mib * _MIB, tuple(parts[name] for name in _FILES), parts["vfs"])
        self.line: SerialLine
        self.failed: asyncio.Future[Exception]
        self._environment = environment
        self._mac = bytes.fromhex(environment.get("BOARD_MAC", _MAC))
        self._vm: VmProcess | None = None
        self._loader: DownloadMode | None = None
        self._heard = b""  # the end of what tools sent to a running program
        self._again: asyncio.TimerHandle | None = None
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._life: asyncio.Task[None] | None = None

    @property
    def is_blank(self) -> bool:
        """True if the flash has nothing where the ROM looks for a program."""
        return self.flash.read(self.chip.firmware_offset, 4) == b"\xff" * 4

    async def power_on(self) -> None:
        """Plug the board in. Its port is there on return. Raises OSError, NoVm, CompileError."""
        build()
        self.press(down=False)
        self.failed = asyncio.get_running_loop().create_future()
        self.line = SerialLine(self._received, self._closed)
        try:
            await self._boot(boot_rom.POWER_ON)
        except BaseException:
            self.line.close()
            raise
        self._life = asyncio.create_task(self._live())

    async def power_off(self) -> None:
        """Unplug the board, at any instruction."""
        self._orders.put_nowait(None)
        if self._life is not None:
            await self._life
        await self._stop()
        self.line.close()

    def reset(self, *, into_loader: bool = False) -> None:
        """Press the reset button, while the BOOT button is held if `into_loader`."""
        self._order(self._download if into_loader else functools.partial(self._boot, boot_rom.POWER_ON))

    def press(self, *, down: bool) -> None:
        """Press the BOOT button down, or let go of it. A program reads it on its pin."""
        folders.make(self.folder / _PINS)
        (self.folder / _PINS / str(_BOOT_PIN)).write_text("0" if down else "1")

    def write_firmware(self) -> None:
        """Write the firmware of virtual boards into the flash, as `keycast board flash` does. The board must be off."""
        octets = firmware.image(self.chip, virtual_board().firmware[0])
        self.flash.erase(self.chip.firmware_offset, len(octets))
        self.flash.write(self.chip.firmware_offset, octets)

    # Starts and ends: one after another, in the order in which they were caused

    async def _live(self) -> None:
        while (order := await self._orders.get()) is not None:
            try:
                await order()
            except (OSError, NoVm) as error:
                self.failed.set_result(error)
                return

    def _order(self, order: Order) -> None:
        self._orders.put_nowait(order)

    async def _boot(self, reason: tuple[int, str]) -> None:
        await self._stop()
        boot = boot_rom.boot(self.chip, self.flash, reason)
        self._print(boot.text)
        if boot.starts:
            await self._start(reason)
        elif boot.again:
            self._boot_later(boot_rom.NOTHING_STARTED)

    def _boot_later(self, reason: tuple[int, str]) -> None:
        again = functools.partial(self._order, functools.partial(self._boot, reason))
        self._again = asyncio.get_running_loop().call_later(_PAUSE_S, again)

    async def _download(self) -> None:
        await self._stop()
        self._loader = DownloadMode(self.chip, self.flash, self._mac)
        self._print(boot_rom.download(self.chip, boot_rom.POWER_ON))

    async def _answer_sync(self, request: bytes) -> None:
        await self._stop()
        self.line.discard()
        self._loader = DownloadMode(self.chip, self.flash, self._mac)
        self._received(request)

    async def _start(self, reason: tuple[int, str], raw: bool = False) -> None:
        self._vm = vm = VmProcess(self.line.send, lambda code: self._ended(vm, code))
        await vm.start(
            {
                **self._environment,
                "MICROPYPATH": f"{TREE}:.frozen",
                "BOARD_HARDWARE": str(HARDWARE_IMAGE),
                "BOARD_ROM": str(self.flash.path(_FILES["romfs"])),
                "BOARD_SLOTS": str(self.flash.path(_FILES["romfs_slots"])),
                "BOARD_VFS": str(self.flash.vfs),
                "BOARD_NVS": str(self.flash.path(_FILES["nvs"]).parent),
                "BOARD_PINS": str(self.folder / _PINS),
                "BOARD_RESET_CAUSE": str(_CAUSES[reason]),
                "BOARD_RAW": "1" if raw else "",
            },
            self.folder,
        )

    def _ended(self, vm: VmProcess, code: int) -> None:
        if vm is not self._vm:
            return
        self._vm = None
        if code in (_SOFT_RESET, _SOFT_RESET_RAW):
            self._order(functools.partial(self._start, _SOFT, code == _SOFT_RESET_RAW))
        elif code in (_RESET, _WATCHDOG):
            self._order(functools.partial(self._boot, boot_rom.WATCHDOG if code == _WATCHDOG else boot_rom.SOFTWARE))
        else:  # the VM itself has failed, and may fail again
            self._boot_later(boot_rom.SOFTWARE)

    async def _stop(self) -> None:
        """End what runs."""
        if self._again is not None:
            self._again.cancel()
        self._loader, self._heard = None, b""
        vm, self._vm = self._vm, None
        if vm is not None:
            await vm.kill()

    # The line

    def _print(self, text: str) -> None:
        self.line.send(text.replace("\n", "\r\n").encode())

    def _received(self, octets: bytes) -> None:
        if self._loader is not None:
            self.line.send(self._loader.feed(octets))
            if self._loader.leaves:
                self.reset()
            return
        self._heard = (self._heard + octets)[-len(octets) - len(SYNC_FRAME) :]
        at = self._heard.find(SYNC_FRAME)
        if at >= 0:
            request, self._heard = self._heard[at:], b""
            self._order(functools.partial(self._answer_sync, request))
        elif self._vm is not None:
            self._vm.send(octets)

    def _closed(self) -> None:
        if self._loader is not None:
            self.reset()


_SOFT = (0, "SOFT_RESET")
_CAUSES = {  # on_vm/machine.py
    boot_rom.POWER_ON: 1,
    boot_rom.SOFTWARE: 2,
    boot_rom.WATCHDOG: 3,
    boot_rom.NOTHING_STARTED: 3,
    _SOFT: 5,
}


def _part(row: Partition) -> Part:
    return Part(_FILES.get(row.name, row.name), row.offset, row.size)


@functools.cache
def build() -> None:
    """Compile the modules that stand in for the hardware of such a board. It runs once in a process."""
    sources = [compile.ON_VM / "rom.py", *sorted(ON_VM.glob("*.py"))]
    files = {source.name: source for source in sources if source.name not in _NOT_HERE}
    compile.compile_tree(files, TREE, board_files.LEVEL)
    compile.write_image(TREE, HARDWARE_IMAGE)


def firmware_image() -> Path:
    """Write the firmware image of virtual boards, and return its file. Raises OSError."""
    board, path = virtual_board(), compile.MPY / "virtual-board.bin"
    firmware.write(path, firmware.image(CHIPS[board.chip.name], board.firmware[0]))
    return path
