"""A second process for the other end of a measurement, so that it does not take turns with what is measured."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

_END_S = 10.0


class SideProcess:
    """What the measuring process says and hears. Messages are any values that can be pickled."""

    def __init__(self, process: multiprocessing.process.BaseProcess, link: Connection) -> None:
        self._process = process
        self._link = link

    def say(self, message: object) -> None:
        """Send a message."""
        self._link.send(message)

    async def hear(self) -> Any:
        """The next message. Raises EOFError when the process has ended."""
        return await asyncio.get_running_loop().run_in_executor(None, self._link.recv)

    async def ask(self, message: object) -> Any:
        """`say`, then `hear`."""
        self.say(message)
        return await self.hear()


@asynccontextmanager
async def side_process(work: Callable[..., None], *arguments: object) -> AsyncIterator[SideProcess]:
    """Run `work(link, *arguments)` in a fresh process; at the end it is told "end", and killed if that is no use."""
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
