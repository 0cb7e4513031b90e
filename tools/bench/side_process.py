"""A second process for the other end of a measurement, so that both ends run at the same time."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

_END_S = 10.0


class SideProcess:
    """The measuring process's end of the connection. Messages are any values that can be pickled."""

    def __init__(self, process: multiprocessing.process.BaseProcess, link: Connection) -> None:
        self._process = process
        self._link = link

    def say(self, message: object) -> None:
        """Send a message."""
        self._link.send(message)

    async def hear(self) -> Any:
        """Return the next message. Raises EOFError if the process has ended."""
        return await asyncio.get_running_loop().run_in_executor(None, self._link.recv)

    async def ask(self, message: object) -> Any:
        """Send a message and return the next one that comes."""
        self.say(message)
        return await self.hear()


@asynccontextmanager
async def side_process(work: Callable[..., None], *arguments: object) -> AsyncIterator[SideProcess]:
    """Run `work(link, *arguments)` in a fresh process. At the end send it "end", and kill it if it goes on."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield SideProcess(process, ours)
        ours.send("end")
        await asyncio.get_running_loop().run_in_executor(None, process.join, _END_S)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
