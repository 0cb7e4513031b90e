"""A running guest: QEMU without hardware virtualisation, so that it runs wherever a program runs, and commands in it.

    async with booted(image, product, folder) as guest:
        await guest.run("hciconfig hci0")

Everything that is started in the guest ends with it.
"""

import asyncio
import itertools
import json
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.radio_bench.errors import NoBench
from tools.radio_bench.image import Image

HCI_PORT = "bench.hci"
"""The virtio port of the guest for the packets of its Bluetooth adapter."""
MEMORY_MB, PROCESSORS = 1024, 2
BOOT_S = 180
BOOTS = 3
CLOCK_S = 1.0
CLOCK_TOLERANCE = 0.05
"""The guest's clock may go so much faster or slower than the host's. It races where the host's processors are busy."""
WATCH_S, RACE = 5.0, 0.25
"""While the guest runs its clock is looked at so often. It races if it is off by so much."""
END_S = 20
_LINE_MAX = 8 << 20
_KERNEL = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on clocksource=hpet"
_FAULTS = re.compile(r"BUG|Oops|general protection|invalid opcode")


class GuestCommandFailed(Exception):
    """A command in the guest ended with another code than 0. The text has the command and what it printed."""


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code and what it printed."""

    code: int
    out: str
    err: str


class Guest:
    """A guest that was booted. `folder` on the host gets its logs; `hci` is the socket of its Bluetooth controller.

    `races` counts spans of WATCH_S in which its clock did not go with the host's: what was measured then means nothing.
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder = folder
        self.hci = sockets / "hci"
        self.boot_s = 0.0
        self.races = 0
        self._control = sockets / "control"
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @property
    def fault(self) -> str:
        """What is wrong with the guest itself, "" if nothing is known: it has ended, or its kernel has failed."""
        if self._process is None or self._process.returncode is not None:
            return "the guest has ended"
        console = self.folder / "console.log"
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        return next((f"the kernel of the guest has failed: {line}" for line in lines if _FAULTS.search(line)), "")

    async def run(self, command: str, timeout_s: float = 60, *, check: bool = True) -> Ran:
        """Run a shell command and wait for its end. Raises GuestCommandFailed unless the code is 0 or not checked."""
        answer = await self._request(timeout_s + 60, run=command, timeout_s=timeout_s)
        if check and answer["code"] != 0:
            raise GuestCommandFailed(f"{command}: code {answer['code']}\n{answer['out']}{answer['err']}")
        return Ran(answer["code"], answer["out"], answer["err"])

    async def start(self, command: str, log: str) -> int:
        """Start a program that goes on; its output goes to the file `log` of the guest. Return its number."""
        return int((await self._request(60, start=command, log=log))["process"])

    async def end(self, process: int, how: signal.Signals = signal.SIGTERM) -> int:
        """End a program that was started, with its children. Return its exit code."""
        return int((await self._request(60, end=process, signal=int(how)))["code"])

    async def ask(self, socket: str, line: str, timeout_s: float = 120) -> str:
        """Send a line to a Unix socket of the guest; return the line that comes back, "" if nothing answers."""
        return str((await self._request(timeout_s, ask=socket, line=line))["answer"])

    async def text(self, path: str) -> str:
        """Return the contents of a text file, "" if there is none."""
        return (await self.run(f"cat {path} 2>/dev/null", check=False)).out

    async def until(self, command: str, timeout_s: float = 60, every_s: float = 0.2) -> str:
        """Repeat a command until its code is 0; return what it printed. Raises GuestCommandFailed after the time."""
        ends = time.monotonic() + timeout_s
        while True:
            ran = await self.run(command, check=False)
            if ran.code == 0:
                return ran.out
            if time.monotonic() > ends:
                raise GuestCommandFailed(f"not within {timeout_s} s: {command}\n{ran.out}{ran.err}")
            await asyncio.sleep(every_s)

    async def clocks(self) -> tuple[float, float]:
        """Return the monotonic clocks of host and guest at one moment, in seconds, as near as some exchanges tell."""
        nearest, best = (0.0, 0.0), float("inf")
        for _ in range(10):
            before = time.monotonic()
            of_guest = float((await self._request(30, clock=True))["clock"])
            took = time.monotonic() - before
            if took < best:
                nearest, best = (before + took / 2, of_guest), took
        return nearest

    async def pace(self, since: tuple[float, float]) -> float:
        """Return how fast the guest's clock has gone since these `clocks`, as a multiple of the host's."""
        now = await self.clocks()
        return (now[1] - since[1]) / (now[0] - since[0])

    async def watch_clock(self) -> None:
        """Count `races`, until this is cancelled or the guest is gone."""
        while True:
            since = await self.clocks()
            await asyncio.sleep(WATCH_S)
            self.races += abs(await self.pace(since) - 1) > RACE

    async def keep(self, folder: Path, *paths: str) -> None:
        """Copy log files of the guest, and the kernel's log, to a folder of the host."""
        (folder / "dmesg").write_text((await self.run("dmesg", check=False)).out)
        for path in paths:
            (folder / Path(path).name).write_text(await self.text(path))

    async def boot(self, image: Image, product: Path) -> None:
        """Start QEMU and wait until the guest answers. Raises NoBench."""
        begun = time.monotonic()
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._words(image, product), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(BOOT_S):
                reader = await self._connect()
                self._reading = asyncio.create_task(self._read(reader))
                ready = asyncio.create_task(self._ready.wait())
                await asyncio.wait([ready, self._reading], return_when=asyncio.FIRST_COMPLETED)
                ready.cancel()
        except TimeoutError:
            raise NoBench(f"The guest did not boot within {BOOT_S} s: {self._last_words()}") from None
        if not self._ready.is_set():
            raise NoBench(f"The guest does not boot: {self._last_words()}")
        self.boot_s = time.monotonic() - begun

    async def close(self) -> None:
        """Switch the guest off."""
        with suppress(OSError):
            if self._writer is not None:
                self._writer.write(b'{"quit": true}\n')
        if self._process is not None:
            try:
                async with asyncio.timeout(END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    def _words(self, image: Image, product: Path) -> list[str]:
        """The words that start QEMU: two disks, of which the first one forgets everything, and two virtio ports."""
        words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-M", "q35,usb=off,hpet=on", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]
        words += ["-smp", str(PROCESSORS), "-m", str(MEMORY_MB), "-serial", f"file:{self.folder / 'console.log'}"]
        words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL]
        for name, disk, more in (("system", image.disk, "snapshot=on"), ("product", product, "readonly=on")):
            words += ["-drive", f"file={disk},if=none,id={name},format=raw,{more}"]
            words += ["-device", f"virtio-blk-pci,drive={name}"]
        words += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        for name, path in (("bench.control", self._control), (HCI_PORT, self.hci)):
            words += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
            words += ["-device", f"virtserialport,chardev={name},name={name}"]
        return words

    async def _connect(self) -> asyncio.StreamReader:
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise NoBench(f"QEMU does not start: {self._last_words()}")
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._control), limit=_LINE_MAX)
                return reader
            except OSError:
                await asyncio.sleep(0.05)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "ready" in message:
                self._ready.set()
            elif (answer := self._answers.pop(message["n"], None)) is not None and not answer.done():
                answer.set_result(message)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoBench(f"The guest is gone: {self._last_words()}"))

    async def _request(self, within_s: float, **request: Any) -> dict[str, Any]:
        assert self._writer is not None  # it was booted
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._writer.write(json.dumps({"n": number, **request}).encode() + b"\n")
        try:
            async with asyncio.timeout(within_s):
                told = await answer
        except TimeoutError:
            raise NoBench(f"The guest does not answer any more: {self._last_words()}") from None
        if "fault" in told:
            raise GuestCommandFailed(f"{request}: {told['fault']}")
        return told

    def _last_words(self) -> str:
        logs = [self.folder / name for name in ("qemu.log", "console.log")]
        return " ".join(path.read_text(errors="replace")[-1500:] for path in logs if path.exists()).strip()


@asynccontextmanager
async def booted(image: Image, product: Path, folder: Path) -> AsyncIterator[Guest]:
    """Boot a guest whose clock goes with the host's, and switch it off at the end.

    `product` is the disk with the gateway (`product.disk`); `folder` gets the logs. Raises NoBench if it does not boot,
    or its clock races BOOTS times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sockets = Path(tempfile.mkdtemp(prefix="bench."))  # the path of a Unix socket is short
    paces = []
    try:
        for _ in range(BOOTS):
            guest = Guest(folder, sockets)
            try:
                await guest.boot(image, product)
                since = await guest.clocks()
                await asyncio.sleep(CLOCK_S)
                paces.append(await guest.pace(since))
                if abs(paces[-1] - 1) <= CLOCK_TOLERANCE:
                    watch = asyncio.create_task(guest.watch_clock())
                    try:
                        yield guest
                    finally:
                        watch.cancel()
                        await asyncio.gather(watch, return_exceptions=True)
                    return
            finally:
                await guest.close()
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    raise NoBench(
        f"The guest's clock went {', '.join(f'{pace:.2f}' for pace in paces)} times as fast as the host's: the "
        "processors are too busy."
    )
