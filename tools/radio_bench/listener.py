"""A board that only listens: the radio and the medium of a board in the MicroPython VM, with the heap of a board."""

import asyncio
import time
from pathlib import Path
from types import TracebackType

from keycast.micropython_vm import compile, vm
from keycast.virtual_board.board import HARDWARE_IMAGE, HEAP_KIB, ON_VM_TREE, BluetoothAir, build
from keycast.virtual_board.nvs_folder import NvsFolder

COMPANY_ID = 0xFFFF
START_S = 30
_PROGRAM = Path(__file__).with_name("on_vm") / "hear_objects.py"


class Listener:
    """A process of the VM on an air. It knows one PN by its alias and frame key.

    `folder` gets its flash, which stays empty.
    """

    def __init__(self, folder: Path, air: BluetoothAir, pn_alias: int, frame_key: bytes) -> None:
        self._flash = NvsFolder(folder / "nvs")
        self._environment = {
            "MICROPYPATH": f"{ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(HARDWARE_IMAGE),
            "BOARD_MAC": "020000000001",
            "BOARD_NVS": str(folder / "nvs"),
            "BOARD_BLE": str(air.socket),
            "BOARD_BLE_HEARS": f"{air.loss} {air.window_us} {air.interval_us}",
            "OBJECTS_COMPANY": f"{COMPANY_ID:x}",
            "OBJECTS_ALIAS": f"{pn_alias:x}",
            "OBJECTS_KEY": frame_key.hex(),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._heard: dict[bytes, float] = {}
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Listener":
        await asyncio.to_thread(build)
        program = await asyncio.to_thread(compile.written_for_board, _PROGRAM)
        command = vm.ensure().command("-c", f"import power_on; exec(open({str(program)!r}).read())", heap_kib=HEAP_KIB)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=self._environment)
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            while (line := await self._process.stdout.readline()) != b"hears\n":
                if not line:
                    raise RuntimeError("the VM has ended; what it printed stands above")
        self._reading = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._reading is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def hears(self, signed: bytes) -> float:
        """Wait until the board has this object, and return the host's monotonic time at which it said so."""
        async with self._changed:
            await self._changed.wait_for(lambda: signed in self._heard)
        return self._heard[signed]

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            async with self._changed:
                self._heard.setdefault(bytes.fromhex(line.decode()), time.monotonic())
                self._changed.notify_all()
