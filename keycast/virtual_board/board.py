"""One virtual board: a process of the MicroPython VM that runs the files of an ESP32, with a folder as its flash.

    board = VirtualBoard.create(folder, number=1, provisioning=record)
    await board.start()
    await board.command("join", group="kitchen")
    await board.event("key", group="kitchen")
    await board.kill()          # cut the power
    await board.start()         # switch it on again

The board's own address is 127.0.x.y, or for a board in a network namespace that of its `Network`.
"""

import asyncio
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpns import cborlite, numbers
from device_agent import provisioning as device_provisioning
from device_agent.key_store import KeyStore
from device_agent.val_client import records as val_records
from keycast.micropython_vm import board_files, compile, vm
from keycast.virtual_board import loopback
from keycast.virtual_board.nvs_folder import NvsFolder

HEAP_KIB = 96
PATIENCE_S = 180.0  # on a machine with too much to do; only a broken board takes longer
BLUETOOTH_KIB = 4  # what on_vm/air_radio.py takes of the heap, and the native code of an ESP32 does not
PARTITIONS_KIB = 3  # the same of on_vm/partitions.py
RESET_CODE = 75  # on_vm/machine.py
_POWER_ON, _HARD_RESET = "1", "2"  # the same
POWER_CUT_CODE = 137  # on_vm/esp32.py
ON_VM = Path(__file__).with_name("on_vm")
ON_VM_TREE = compile.MPY / "virtual"
HARDWARE_IMAGE = compile.MPY / "virtual.romfs"
LINE_MAX = 1 << 16
_WIFI_RECORD = [1, "virtual", "virtual password"]  # micropython/wifi.py
_PARTITIONS = {"romfs": 0x60000, "ota_0": 0x40000, "ota_1": 0x40000, "otadata": 0x2000}  # on_vm/partitions.py
_BOARD_RECORD = [1, "virtual", -1, "plain", -1, [1, 4, 5]]  # micropython/board_record.py


class BoardError(Exception):
    """The board refused a command. `kind` is the name of the exception on the board, `reason` its text."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


class BoardEnded(Exception):
    """The board's process ended before it did what was awaited. The text has the end of its output."""


@dataclass(frozen=True)
class Network:
    """The network of a board. `prefix` goes before the command of its process, such as `ip netns exec NAME`."""

    address: str
    netmask: str = "255.0.0.0"
    prefix: Sequence[str] = ()
    port: int = numbers.PORT_COAP
    broadcast_port: int = numbers.PORT_BROADCAST

    @classmethod
    def loopback(cls, number: int) -> "Network":
        """Return the loopback network of board `number` (1..16,000): 127.0.64.1, .2, ..., on ports of this process."""
        address = f"127.0.{64 + number // 250}.{1 + number % 250}"
        return cls(address, port=loopback.board_port(), broadcast_port=loopback.broadcast_port())


@dataclass(frozen=True)
class BluetoothAir:
    """The air of a board's Bluetooth: the socket of `gateway_agent.radios.virtual_air.boards`, and how the board hears.

    `loss` is the probability that an advert from or to it is lost. If `interval_us` is not 0, it hears adverts only in
    the first `window_us` of each interval, as beside Wi-Fi.
    """

    socket: Path
    loss: float = 0.0
    window_us: int = 0
    interval_us: int = 0


class VirtualBoard:
    """A board and its process. Events of the board are kept in `events`, in order.

    `rom` is the image that it runs; `be_val_client` sets that of a VAL client. `app` is the folder of another
    application, with which it must be started with `up=False`, or None for the one that accepts commands.
    """

    def __init__(self, folder: Path, number: int, network: Network) -> None:
        self.folder = folder
        self.number = number
        self.network = network
        self.rom = compile.BOARD_IMAGE
        self.val_client = ""
        self.app: Path | None = None
        self.partitions = ""
        self.nvs = NvsFolder(folder / "nvs")
        (folder / "files").mkdir(mode=0o700, exist_ok=True)
        self.events: list[dict[str, Any]] = []
        self.exit_code: int | None = None
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Condition()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._commands = 0
        self._reader: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Board {self.number} at {self.network.address}>"

    @classmethod
    def create(
        cls,
        folder: Path,
        number: int,
        provisioning: bytes,
        network: Network | None = None,
        *,
        wifi: bool = True,
        company_id: int | None = None,
    ) -> "VirtualBoard":
        """Return a new board. Its flash holds `provisioning` (`device_agent.provisioning`), if that is not empty, and
        the other records that it has from its maker.

        It knows an access point if `wifi`, and uses Bluetooth if it has the `company_id` of adverts.
        """
        build()
        shutil.rmtree(folder, ignore_errors=True)
        board = cls(folder, number, network or Network.loopback(number))
        store = KeyStore(board.nvs)
        if provisioning:
            store.save(device_provisioning.RECORD, provisioning)
        if wifi:
            store.save("wifi", cborlite.encode(_WIFI_RECORD))
        if company_id is not None:
            store.save("ble", cborlite.encode([1, company_id]))  # micropython/ble.py
        store.save("board", cborlite.encode(_BOARD_RECORD))
        return board

    def be_val_client(self, client: bytes, rsks: dict[int, bytes]) -> None:
        """Run `device_agent.val_client` from the next start on, with a record of `records.pack_client` and RSKs."""
        folder = self.folder / "val"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.rom, self.val_client = compile.VAL_CLIENT_IMAGE, f"{folder}/"
        store = KeyStore(self.nvs)
        store.save(val_records.PROVISIONING, client)
        val_records.save_rsks(store, rsks)

    def have_slots(self) -> None:
        """Give the board a flash that can be updated: two slots of the agent, and two of its firmware.

        Without it an image of the agent has no room in its heap (on_vm/partitions.py).
        """
        folder = self.folder / "partitions"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, size in _PARTITIONS.items():
            if not (folder / f"{name}.bin").exists():
                (folder / f"{name}.bin").write_bytes(b"\xff" * size)
        self.partitions = f"{folder}/"

    async def run_script(self, script: Path) -> None:
        """Run a program of the host with the board's modules, as `mpremote run` does. Raises BoardEnded if it fails."""
        if self.running:
            raise ValueError(f"{self} is running")
        code = f"import power_on; exec(open({str(script)!r}).read())"
        command = vm.ensure().command("-c", code, heap_kib=HEAP_KIB)
        process = await asyncio.create_subprocess_exec(
            *command, env=self._environment(), cwd=self.folder, stdout=asyncio.subprocess.DEVNULL
        )
        if failed := await process.wait():
            raise BoardEnded(f"{script} ended with {failed} on {self}")

    async def take_val_files(self, folder: Path) -> None:
        """Make the board a VAL client with the files of `keycast seal board`: run its script, copy its caches."""
        from keycast.provisioning import val_client  # imported here, as it needs the extra `seal`

        target = self.folder / "val"
        target.mkdir(mode=0o700, exist_ok=True)
        self.rom, self.val_client = compile.VAL_CLIENT_IMAGE, f"{target}/"
        await self.run_script(folder / val_client.SCRIPT)
        for cache in folder.glob("v*"):
            shutil.copy(cache, target)

    @property
    def bluetooth_address(self) -> str:
        """The address of its Bluetooth, such as "02:00:00:00:00:03"."""
        octets = f"{(0x02 << 40) + self.number + 2:012X}"  # that of the chip plus 2, as Espressif gives them out
        return ":".join(octets[at : at + 2] for at in range(0, 12, 2))

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(
        self,
        *,
        loss: float = 0.0,
        seed: int = 1,
        power_cut: str = "",
        heap_kib: int = HEAP_KIB,
        up: bool = True,
        in_range: bool = True,
        air: BluetoothAir | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Switch the power on. Return when the agent runs, or at once if `up` is False.

        `loss` is the probability that a datagram from or to this board is lost, drawn from `seed`. `power_cut` is
        "n:before", "n:torn" or "n:after": the power fails at the n-th write to the flash. Unless `in_range`, the board
        does not find its access point. Without `air` it has no Bluetooth. `more` is added to the environment of its
        modules (on_vm/idf_heap.py, on_vm/power_on.py). Raises BoardEnded.
        """
        if self.running:
            raise ValueError(f"{self} is already running")
        machine = vm.ensure()
        environment = self._environment() | {
            "BOARD_LOSS": repr(loss),
            "BOARD_SEED": str(seed),
            "BOARD_POWER_CUT": power_cut,
            "BOARD_OUT_OF_RANGE": "" if in_range else "1",
            "BOARD_RESET_CAUSE": _HARD_RESET if self.exit_code == RESET_CODE else _POWER_ON,
            "BOARD_BLE": "" if air is None else str(air.socket),
            "BOARD_BLE_HEARS": "" if air is None else f"{air.loss} {air.window_us} {air.interval_us}",
            **(more or {}),
        }
        more_kib = (0 if air is None else BLUETOOTH_KIB) + (PARTITIONS_KIB if self.partitions else 0)
        command = machine.command("-c", "import power_on; power_on.run()", heap_kib=heap_kib + more_kib)
        with open(self.folder / "errors.txt", "ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self.network.prefix,
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=self.folder,
                limit=LINE_MAX,
            )
        self.exit_code = None
        first = len(self.events)
        self._reader = asyncio.create_task(self._read(self._process))
        if up:
            await self.event("up", since=first, timeout_s=PATIENCE_S)

    async def command(self, do: str, *, timeout_s: float = PATIENCE_S, **values: Any) -> dict[str, Any]:
        """Send the board a command, one of those in on_vm/app.py, and return its answer.

        Raises BoardError if it refuses, BoardEnded if it ends, TimeoutError.
        """
        if not self.running or self._process is None or self._process.stdin is None:
            raise BoardEnded(self._last_words())
        self._commands += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._commands] = answer
        line = json.dumps({"n": self._commands, "do": do, **values})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            result = await answer
        if "error" in result:
            raise BoardError(result["error"], result["reason"])
        return result

    async def event(self, name: str, *, since: int = 0, timeout_s: float = PATIENCE_S, **values: Any) -> dict[str, Any]:
        """Return the first event `name` with these values among `events[since:]`; wait for it if need be.

        Raises BoardEnded if the board ends before, TimeoutError.
        """
        wanted = {"event": name, **values}
        async with asyncio.timeout(timeout_s), self._changed:
            position = since
            while True:
                for event in self.events[position:]:
                    if wanted.items() <= event.items():
                        return event
                position = len(self.events)
                if self.exit_code is not None:
                    raise BoardEnded(self._last_words())
                await self._changed.wait()

    def type(self, octets: bytes) -> None:
        """Send octets on the serial line of the board."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(octets)

    async def line(self, start: str, *, since: int = 0, timeout_s: float = PATIENCE_S) -> str:
        """Return what follows `start` in the first line printed that begins so, among `events[since:]` or later.

        Raises BoardEnded, TimeoutError as `event` does.
        """

        def found() -> list[str]:
            told = [str(event.get("text", "")) for event in self.events[since:]]
            return [text.removeprefix(start) for text in told if text.startswith(start)]

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: found() or self.exit_code is not None)
        if not found():
            raise BoardEnded(self._last_words())
        return found()[0]

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until the board's process has ended and return its exit code, such as RESET_CODE or POWER_CUT_CODE."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.exit_code is not None)
        assert self.exit_code is not None
        return self.exit_code

    async def kill(self) -> None:
        """Cut the power, at any instruction of the board."""
        if self.running and self._process is not None:
            self._process.kill()
            await self.ended()

    async def stop(self) -> None:
        """End the board by closing its input, on which its application exits; after 5 s cut the power."""
        if self.running and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                await self.ended(timeout_s=5)
            except TimeoutError:
                await self.kill()

    async def restart(self, **how: Any) -> None:
        """Cut the power and start the board again, with the arguments of `start`."""
        await self.kill()
        self.restarts += 1
        await self.start(**how)

    def _environment(self) -> dict[str, str]:
        return {
            "MICROPYPATH": f"{ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(self.rom),
            "BOARD_VAL_CLIENT": self.val_client,
            "BOARD_APP": str(self.app or ""),
            "BOARD_FILES": f"{self.folder}/files/",
            "BOARD_PARTITIONS": self.partitions,
            "BOARD_HARDWARE": str(HARDWARE_IMAGE),
            "BOARD_ADDRESS": self.network.address,
            "BOARD_NETMASK": self.network.netmask,
            "BOARD_PORT": str(self.network.port),
            "BOARD_BROADCAST_PORT": str(self.network.broadcast_port),
            "BOARD_MAC": f"02{self.number:010x}",
            "BOARD_NVS": str(self.folder / "nvs"),
        }

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                values = json.loads(line)
            except ValueError:
                values = {"event": "print", "text": line.decode(errors="replace").rstrip()}
            if not isinstance(values, dict):
                values = {"event": "print", "text": line.decode(errors="replace").rstrip()}
            if "n" in values:
                answer = self._answers.pop(values.pop("n"), None)
                if answer and not answer.done():
                    answer.set_result(values)
                continue
            async with self._changed:
                self.events.append(values)
                self._changed.notify_all()
        code = await process.wait()
        await self.nvs.wait_until_unused()
        async with self._changed:
            self.exit_code = code
            self._changed.notify_all()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(BoardEnded(self._last_words()))
        self._answers.clear()

    def _last_words(self) -> str:
        try:
            errors = (self.folder / "errors.txt").read_text(errors="replace")[-2000:]
        except FileNotFoundError:
            errors = ""
        printed = [event["text"] for event in self.events if event.get("event") == "print"][-30:]
        return f"{self} ended with exit code {self.exit_code}\n" + "\n".join(printed) + errors


@functools.cache
def build() -> None:
    """Compile the files of boards, and the modules that stand in for their hardware.

    It runs once in a process. `VirtualBoard.create` calls it, so that no board runs files compiled from older sources.
    """
    compile.compile_board()
    compile.compile_val_client_board()
    sources = [compile.ON_VM / "rom.py", *sorted(ON_VM.glob("*.py"))]
    files = {source.name: source for source in sources}
    files = compile.write_sources(files, compile.SOURCES / ON_VM_TREE.name, keep=True)
    compile.compile_tree(files, ON_VM_TREE, board_files.LEVEL)
    compile.write_image(ON_VM_TREE, HARDWARE_IMAGE)
