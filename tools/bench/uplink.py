"""One update of a Group Key at a CPNS Server with thousands of PN GWs, over CoAP and OSCORE on loopback.

Real: the Server with its stores, sessions and courier. Simulated: see `pn_gateways` and `fleet`. The peer is bare
aiocoap, which sends as many octets to the same addresses, without OSCORE and without a store.
"""

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiocoap  # type: ignore[import-untyped]

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from keycast.virtual_board.loopback import own_port
from message_plane.links.udp import place_of
from tools.bench import fleet
from tools.bench.pn_gateways import Expect
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.side_process import SideProcess, side_process
from tools.bench.udp_gateways import fits, host, serve

SIZES = (200, 1000, 3000)
ROUNDS = {200: 3, 1000: 3, 3000: 1}  # one round of so many is as good as several
SILENT_OF = 1000  # size of the group half of which is silent
PEER_ROUNDS = 3
PEER_IN_FLIGHT = 64  # with more, datagrams get lost in the kernel
TARGET_SILENT, TARGET_COMMITS, TARGET_LINEAR, TARGET_RATE = 2.0, 50, 1.3, 0.5
SERVER_ADDRESS = "127.0.0.1"
_REQUEST_OCTETS = 150  # a Group Key in CBOR, with CoAP and OSCORE
_SETTLE_S = 0.2
_GIVE_UP_S = 60.0


@dataclass(frozen=True)
class _Updated:
    """One update: seconds until the last PN GW has it, the Server's processor time, its synced commits."""

    seconds: float
    processor: float
    commits: int


def measure(tell: Tell) -> Iterator[Line]:
    """Yield time, processor time and synced commits of one update, with and without silent PN GWs."""
    if not fits(max(SIZES)):
        yield Skipped(f"{max(SIZES):,} PN GWs", "this machine does not let a process open a socket for each of them")
        return
    updates, half_silent, plain_s = asyncio.run(_updates(tell))
    small, middle, large = (_median(updates[size]) for size in SIZES)
    note = "median of a few updates; the PN GWs share one process and answer at once"
    yield Row(
        f"one update, {SILENT_OF:,} PN GWs over UDP",
        SILENT_OF / middle.seconds,
        "PN GWs/s",
        "plain POSTs (aiocoap)",
        SILENT_OF / plain_s,
        TARGET_RATE * SILENT_OF / plain_s,
        note,
    )
    yield Row(
        f"one update, half of {SILENT_OF:,} PN GWs silent: the others have it",
        half_silent.seconds,
        "s",
        "none silent",
        middle.seconds,
        TARGET_SILENT * middle.seconds,
        "the first update after they fell silent: nobody knows of it yet",
    )
    yield Row(
        f"one update, {SIZES[2]:,} PN GWs: the Server's processor time for one",
        large.processor * 1000 / SIZES[2],
        "ms",
        f"with {SIZES[0]} PN GWs",
        small.processor * 1000 / SIZES[0],
        TARGET_LINEAR * small.processor * 1000 / SIZES[0],
        note,
    )
    yield Row(f"one update, {SIZES[2]:,} PN GWs: all have it", large.seconds, "s", note=note)
    yield Row(
        f"synced commits for {SILENT_OF:,} acceptances", middle.commits, "commits", target=TARGET_COMMITS, note=note
    )


def _median(updates: list[_Updated]) -> _Updated:
    return sorted(updates, key=lambda update: update.seconds)[len(updates) // 2]


async def _updates(tell: Tell) -> tuple[dict[int, list[_Updated]], _Updated, float]:
    """Return the updates of each size, one with half of the PN GWs silent, and the seconds that the peer needs."""
    with tempfile.TemporaryDirectory() as folder:
        tell(f"{max(SIZES):,} PN GWs and their sessions")
        async with _fleet(Path(folder)) as (server, gateways, port):
            await _update(server, gateways, max(SIZES))  # reserves sender numbers, as one update in 64 does
            updates: dict[int, list[_Updated]] = {}
            for size, rounds in ROUNDS.items():
                tell(f"one update, {size:,} PN GWs")
                updates[size] = [await _update(server, gateways, size) for _ in range(rounds)]
            tell("as many plain POSTs of aiocoap")
            plain_s = statistics.median([await _plain_posts(port) for _ in range(PEER_ROUNDS)])
            tell(f"half of {SILENT_OF:,} PN GWs fall silent")
            return updates, await _update(server, gateways, SILENT_OF, SILENT_OF // 2), plain_s


async def _update(server: CpnsServer, gateways: SideProcess, size: int, silent: int = 0) -> _Updated:
    await asyncio.sleep(_SETTLE_S)
    commits, processor, begun = server.commits, time.process_time(), time.monotonic()
    version = server.update_key(_group(size))
    async with asyncio.timeout(_GIVE_UP_S):
        reached = await gateways.ask(Expect(_group(size), version, size - silent, silent))
    processor = time.process_time() - processor
    await asyncio.sleep(_SETTLE_S)
    return _Updated(reached.at - begun, processor, server.commits - commits)


async def _plain_posts(port: int) -> float:
    client = await aiocoap.Context.create_client_context(transports=["udp6"])
    payload = secrets.token_bytes(_REQUEST_OCTETS)
    requests = [
        aiocoap.Message(code=aiocoap.POST, uri=f"coap://{host(number)}:{port}/cpns", payload=payload)
        for number in range(SILENT_OF)
    ]
    places = asyncio.Semaphore(PEER_IN_FLIGHT)

    async def ask(request: aiocoap.Message) -> aiocoap.Message:
        async with places:
            return await client.request(request).response

    try:
        begun = time.monotonic()
        answers = await asyncio.gather(*map(ask, requests))
        seconds = time.monotonic() - begun
    finally:
        await client.shutdown()
    if any(answer.code != aiocoap.CHANGED for answer in answers):
        raise AssertionError("a PN GW refused a plain POST")
    return seconds


# The fleet


def _group(size: int) -> str:
    return f"fleet/{size}"


@asynccontextmanager
async def _fleet(folder: Path) -> AsyncIterator[tuple[CpnsServer, SideProcess, int]]:
    """Yield a Server with a group of each size, whose PN GWs all have its newest key, the PN GWs, and their port."""
    port = own_port()
    folder.chmod(0o700)
    keys, known = fleet.draw(max(SIZES))
    fleet.put_sessions(folder, keys, known, lambda number: place_of(host(number), port))
    fleet.put_groups(SqliteServerDatabase(folder), len(keys), {_group(size): size for size in SIZES})
    config = ServerConfig(id=fleet.SERVER_ID, listen=[SERVER_ADDRESS], port=0, batching_s=0)
    async with side_process(serve, keys, port) as gateways:
        await gateways.hear()
        server = await CpnsServer.open(folder, config)
        try:
            server.start()
            yield server, gateways, port
        finally:
            await server.close()
