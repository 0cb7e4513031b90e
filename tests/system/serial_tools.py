"""Tools that are run as programs on the port of a virtual board."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from keycast.hardware.board import Board
from keycast.virtual_board.serial_board import SerialBoard
from tests.waiting import PATIENCE_S, until


@asynccontextmanager
async def plugged_in(
    folder: Path, kind: Board | None = None, *, flashed: bool = True, **environment: str
) -> AsyncIterator[SerialBoard]:
    """A board that is on, with firmware if `flashed`, and unplugged in the end."""
    board = SerialBoard(folder, environment, kind)
    if flashed:
        board.write_firmware()
    await board.power_on()
    try:
        yield board
    finally:
        await board.power_off()


async def tool(module: str, *words: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    """Run `python -m module words`; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, words),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, _ = await process.communicate()
    return await process.wait(), printed.decode(errors="replace")


async def mpremote(board: SerialBoard, *words: str | Path) -> str:
    """What mpremote prints, which must end with 0."""
    code, printed = await tool("mpremote", "connect", board.line.device, *words)
    assert code == 0, f"mpremote {words} ended with {code}:\n{printed}"
    return printed


async def run_on(board: SerialBoard, program: str) -> None:
    """Have the board run a program, and return while it runs.

    A tool that has sent a program ends before the board begins it, and until then Ctrl-C is an octet like others.
    """
    await mpremote(board, "exec", "--no-follow", f"open('/runs', 'w').close()\n{program}")
    await until((board.flash.vfs / "runs").exists)


async def esptool(board: SerialBoard, *words: str | Path) -> str:
    """What esptool prints, which must end with 0."""
    code, printed = await tool("esptool", "--port", board.line.device, "--before", "no-reset", *words)
    assert code == 0, f"esptool {words} ended with {code}:\n{printed}"
    return printed


class Terminal:
    """A person or a tool with the port open, who reads until a text comes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.heard = b""

    async def __aenter__(self) -> "Terminal":
        file = open(self._device, "r+b", buffering=0)  # noqa: SIM115 - closed with the transports
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader()
        self._in, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), file)
        self._file = file
        return self

    async def __aexit__(self, *_: object) -> None:
        self._in.close()
        await asyncio.sleep(0)  # the transport closes its file in a later turn of the loop
        self._file.close()

    def type(self, octets: bytes) -> None:
        self._file.write(octets)

    async def prompt(self) -> None:
        """Wait until the board is at its prompt and has printed all it had to."""
        self.type(b"print('at', 'the prompt')\r")
        await self.until(b"at the prompt\r\n>>> ")

    async def until(self, text: bytes) -> bytes:
        """What came up to this text, and with it; the rest is kept."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.heard:
                octets = await self._reader.read(4096)
                assert octets, f"the port went away after {self.heard!r}"
                self.heard += octets
        found, _, self.heard = self.heard.partition(text)
        return found + text
