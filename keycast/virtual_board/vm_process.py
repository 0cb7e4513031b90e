"""The process of a virtual board that has a serial line: one run of the MicroPython VM, from a start to the next.

Ctrl-C goes to a running program as an interrupt, and to a REPL that waits as an octet, as on the UART of a board.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from keycast.micropython_vm import vm
from keycast.virtual_board.board import BLUETOOTH_KIB
from keycast.virtual_board.nvs_folder import NvsFolder

HEAP_KIB = 96
_START = "import serial_start, serial_repl; serial_repl.run()"
_CTRL_C = b"\x03"
_READ = 4096
_UNREAD_MAX = 65536
_EARLY_MAX = 256  # octets, as the UART of a board keeps them
_INTERRUPT_S = 1.0  # a second signal before the VM has noticed the first one would end it


class VmProcess:
    """A running VM. `printed` is called with its output, `ended` with its exit code, -n after signal n."""

    def __init__(self, printed: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        self._printed = printed
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._state = -1
        self._early = b""
        self._runs = False
        self._next_interrupt = 0.0
        self._last = b""
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, environment: Mapping[str, str], folder: Path) -> None:
        """Start the VM in `folder` with the heap of a board. Raises OSError, NoVm."""
        more_kib = BLUETOOTH_KIB if environment.get("BOARD_BLE") else 0
        command = vm.ensure().command("-c", _START, heap_kib=HEAP_KIB + more_kib)
        self._state, theirs = os.pipe()
        os.set_blocking(self._state, False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**environment, "BOARD_STATE": str(theirs)},
                cwd=folder,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C in the terminal of the front is not for the board
            )
        except BaseException:
            os.close(self._state)
            raise
        finally:
            os.close(theirs)
        self._watcher = asyncio.create_task(self._read(NvsFolder(Path(environment["BOARD_NVS"]))))
        self.send(self._early)

    def send(self, octets: bytes) -> None:
        """Send octets to the standard input of the VM, at once or after its start; Ctrl-C interrupts a program."""
        if self._process is None or self._process.stdin is None:
            self._early += octets[: _EARLY_MAX - len(self._early)]
            return
        self._look()
        if self._runs and _CTRL_C in octets:
            octets = octets.replace(_CTRL_C, b"")
            self._interrupt()
        transport = self._process.stdin.transport
        if octets and transport.get_write_buffer_size() < _UNREAD_MAX and not transport.is_closing():
            self._process.stdin.write(octets)

    async def kill(self) -> None:
        """Cut the power."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._watcher is not None:
            await self._watcher

    def _interrupt(self) -> None:
        now = time.monotonic()
        if self._process is not None and self._process.returncode is None and now >= self._next_interrupt:
            self._next_interrupt = now + _INTERRUPT_S
            self._process.send_signal(signal.SIGINT)

    def _look(self) -> None:
        """Learn whether a program runs. The VM tells it before it prints what follows."""
        with contextlib.suppress(BlockingIOError):
            if told := os.read(self._state, _READ):
                self._runs = told.endswith(b"r")
                self._next_interrupt = 0.0

    async def _read(self, nvs: NvsFolder) -> None:
        assert self._process is not None and self._process.stdout is not None
        while octets := await self._process.stdout.read(_READ):
            self._look()
            self._printed(self._with_returns(octets))
        code = await self._process.wait()
        await nvs.wait_until_unused()
        os.close(self._state)
        self._ended(code)

    def _with_returns(self, octets: bytes) -> bytes:
        """Return the output with line ends as on a board, whose `print` makes each of them CR LF."""
        lines = (self._last + octets).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        skipped = len(self._last)
        self._last = b"\r" if octets.endswith(b"\r") else b""
        return lines[skipped:]
