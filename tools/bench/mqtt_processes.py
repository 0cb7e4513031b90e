"""Two processes of one CPNS Server on one PostgreSQL, beside one process: who works for whom, and what it costs.

Real: both processes, PostgreSQL with synced commits, and Mosquitto with TLS. Simulated: the PN GWs (`pn_gateways`),
which make their sessions by a handshake.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from key_servers.cpns_server.server_identity import IDENTITY_FILE
from keycast.broker.own_broker import NoBroker
from message_plane.credentials import Credential
from message_plane.identity import OwnIdentity
from message_plane.links.mqtt_topics import SHARDS
from tools.bench import brokers, fleet, postgres
from tools.bench.mqtt import BEST, Updated, connected, group, serving, update
from tools.bench.mqtt_gateways import ShakeHands
from tools.bench.postgres import NoPostgres
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.server_process import Settle
from tools.bench.side_process import SideProcess
from tools.bench.udp_gateways import fits

SIZE = 1000
ROUNDS = 5
CORES_FOR_SPEED = 4  # with fewer the processes wait for each other, for the broker, PostgreSQL and the PN GWs
TARGET_LEAST, TARGET_MOST, TARGET_TOTAL = 40, 60, 1.2
_SHARED_S = 60.0
_LOOK_S = 0.5
_GIVE_UP_S = 300.0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield how two processes share the PN GWs, and their processor time beside that of one."""
    if not fits(SIZE):
        yield Skipped("PostgreSQL", f"this machine does not let a process open a socket for each of {SIZE:,} PN GWs")
        return
    try:
        yield from asyncio.run(_measured(tell))
    except (NoBroker, NoPostgres) as why:
        yield Skipped("two processes of a CPNS Server", str(why))


async def _measured(tell: Tell) -> list[Line]:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        with postgres.running(folder / "postgres") as url:
            tell(f"{SIZE:,} certificates and PN GWs")
            keys, known = fleet.draw(SIZE)
            plan = brokers.with_tls(folder / "broker", [each.gateway_id for each in keys], processes=2)
            for name in ("server", "server-2"):
                (folder / name).mkdir(mode=0o700)
            identity = OwnIdentity.create(folder / "server" / IDENTITY_FILE, fleet.SERVER_ID, "server")
            _put_fleet(url, known)
            async with (
                plan.running(),
                connected(keys, plan) as gateways,
                serving(folder / "server", plan, 0, url) as first,
            ):
                tell(f"{SIZE:,} handshakes")
                async with asyncio.timeout(_GIVE_UP_S):
                    await gateways.ask(ShakeHands(identity.credential))
                tell("updates by one process")
                await update(first, gateways, group(SIZE), SIZE)
                alone = [await update(first, gateways, group(SIZE), SIZE) for _ in range(ROUNDS)]
                async with serving(folder / "server-2", plan, 1, url) as second:
                    tell("two processes share the PN GWs")
                    shares = await _shares([first, second])
                    tell("updates by two processes")
                    await update(first, gateways, group(SIZE), SIZE, second)
                    both = [await update(first, gateways, group(SIZE), SIZE, second) for _ in range(ROUNDS)]
    return list(_rows(alone, both, shares))


def _rows(alone: list[Updated], both: list[Updated], shares: list[int]) -> Iterator[Row]:
    what = "two processes of a CPNS Server on one PostgreSQL"
    note = f"of {SHARDS} shards: {' and '.join(map(str, shares))}"
    yield Row(f"{what}: the larger share", max(shares) * 100 / SHARDS, "%", target=TARGET_MOST, note=note)
    yield Row(f"{what}: not in the smaller share", 100 - min(shares) * 100 / SHARDS, "%", target=100 - TARGET_LEAST)
    one = min(each.processor for each in alone) * 1000 / SIZE
    yield Row(
        f"{what}: processor time of both for one of {SIZE:,} PN GWs",
        min(each.processor for each in both) * 1000 / SIZE,
        "ms",
        "one process",
        one,
        TARGET_TOTAL * one,
        BEST,
    )
    if (os.cpu_count() or 1) >= CORES_FOR_SPEED:
        yield Row(
            f"{what}: all have answered",
            min(each.answered for each in both),
            "s",
            "one process",
            min(each.answered for each in alone),
            note=BEST,
        )


def _put_fleet(url: str, known: list[Credential]) -> None:
    from key_servers.cpns_server.postgres.database import PostgresServerDatabase
    from key_servers.cpns_server.postgres.sessions import PostgresSessions

    database = PostgresServerDatabase(url)
    sessions = PostgresSessions(database.source.connect)
    for credential in known:
        sessions.bind(credential, replace=False)
    sessions.close()
    fleet.put_groups(database, SIZE, {group(SIZE): SIZE})


async def _shares(processes: list[SideProcess]) -> list[int]:
    """Return how many shards each process holds, once all are held and no process has much more than its share."""
    ends = time.monotonic() + _SHARED_S
    while True:
        shares = [(await each.ask(Settle())).shards for each in processes]
        even = max(shares) * 100 <= TARGET_MOST * SHARDS
        if (even and sum(shares) == SHARDS) or time.monotonic() > ends:
            return shares
        await asyncio.sleep(_LOOK_S)
