"""A CPNS Server in a process of its own, whose processor time and memory nobody else uses."""

import asyncio
import gc
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.services import garbage
from tools.bench.fleet import gateway_id, pn_id


@dataclass(frozen=True)
class UpdateKey:
    """A request to the process, to make a new key of a Service Group; it reports an `Updated`."""

    sg_id: str


@dataclass(frozen=True)
class Updated:
    """The new version, when it was wished for (monotonic seconds), and the processor time until then (seconds)."""

    version: int
    at: float
    processor: float


@dataclass(frozen=True)
class Settle:
    """A request to the process, to report its `Usage` when no request to a PN GW is under way."""


@dataclass(frozen=True)
class Usage:
    """The moment (monotonic seconds), the processor time until then, synced commits, memory (KiB), shards held."""

    at: float
    processor: float
    commits: int
    memory: int
    shards: int


@dataclass(frozen=True)
class SetForm:
    """A request to the process, to send the first `count` PN GWs messages in a form from now on; it reports "done"."""

    form: str
    count: int


def run(link: Connection, folder: Path, config: ServerConfig, database_url: str | None = None) -> None:
    """Run the process: a Server on this folder, or on PostgreSQL, until something else is said."""
    asyncio.run(_run(link, folder, config, database_url))


async def _run(link: Connection, folder: Path, config: ServerConfig, database_url: str | None) -> None:
    loop = asyncio.get_running_loop()
    server = await CpnsServer.open(folder, config, database_url=database_url)
    garbage.search_rarely()  # as any process that serves
    server.start()
    link.send("there")
    try:
        while True:
            said = await loop.run_in_executor(None, link.recv)
            if isinstance(said, UpdateKey):
                begun, processor = time.monotonic(), time.process_time()
                link.send(Updated(server.update_key(said.sg_id), begun, processor))
            elif isinstance(said, Settle):
                await server.idle()
                link.send(
                    Usage(time.monotonic(), time.process_time(), server.commits, _memory(), server._shards.usable)
                )
            elif isinstance(said, SetForm):
                for number in range(said.count):
                    server.register_gateway(gateway_id(number), pn_id(number), form=said.form)
                link.send("done")
            else:
                return
    finally:
        await server.close()


def _memory() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
