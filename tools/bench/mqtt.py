"""One update of a Group Key at a CPNS Server with thousands of PN GWs, over MQTT and OSCORE through a real Mosquitto.

Real: the Server in a process of its own, with its stores, sessions and courier, and the broker, with the files of
`keycast server broker-files`. Simulated: see `pn_gateways`, `mqtt_client` and `fleet`. The peer is bare aiomqtt in the
Server's place, to which the same clients echo as many octets.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cpns import uplink_form
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from keycast.broker.own_broker import NoBroker
from message_plane.credentials import Credential
from message_plane.links.mqtt_topics import place_of, tag_of
from tools.bench import brokers, fleet, mqtt_gateways, mqtt_peer, server_process
from tools.bench.brokers import BrokerPlan
from tools.bench.pn_gateways import Expect
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.server_process import SetForm, Settle, UpdateKey
from tools.bench.side_process import SideProcess, side_process
from tools.bench.udp_gateways import fits

SIZE, MANY = 1000, 10_000
ROUNDS, ROUNDS_OF_MANY = 5, 3
FORMS = (uplink_form.CBOR, uplink_form.XML)
TARGET_PEER, TARGET_MS, TARGET_RATE, TARGET_LINEAR, TARGET_MANY_S, TARGET_KIB = 2.0, 0.25, 4000, 1.3, 10.0, 12
BEST = "best of a few; the broker, the Server and the PN GWs, which answer at once, share this machine"
_SETTLE_S = 0.3
_GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Updated:
    """One update, in seconds: until the last PN GW has it, until the last has answered; the Server's processor time.

    `octets`: those of the datagram with the key. `memory`: KiB of the Server afterwards.
    """

    has_it: float
    answered: float
    processor: float
    octets: int
    memory: int


def measure(tell: Tell) -> Iterator[Line]:
    """Yield time and processor time of one update through Mosquitto, and memory of PN GWs that rest."""
    if not fits(MANY):
        yield Skipped("MQTT", f"this machine does not let a process open a socket for each of {MANY:,} PN GWs")
        return
    try:
        yield from asyncio.run(_with_tls(tell))
        yield from asyncio.run(_many(tell))
    except NoBroker as why:
        yield Skipped("MQTT", str(why))


async def _with_tls(tell: Tell) -> list[Line]:
    """Measure updates in both forms over TLS beside the echoes of the peer."""
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        tell(f"{SIZE:,} certificates and sessions")
        keys, known = fleet.draw(SIZE)
        plan = brokers.with_tls(folder / "broker", [each.gateway_id for each in keys], processes=2)
        put_fleet(folder / "server", keys, known, {group(SIZE): SIZE})
        tags = [tag_of(each.gateway_id) for each in keys]
        async with plan.running(), connected(keys, plan) as gateways:
            updates = {}
            async with serving(folder / "server", plan) as server:
                for form in FORMS:
                    tell(f"one update, {SIZE:,} PN GWs over TLS, {form}")
                    await server.ask(SetForm(form, SIZE))
                    await update(server, gateways, group(SIZE), SIZE)  # reserves sender numbers, as one in 64 does
                    updates[form] = [await update(server, gateways, group(SIZE), SIZE) for _ in range(ROUNDS)]
            for form in FORMS:
                tell(f"as many echoes to aiomqtt, {form}")
                octets = updates[form][0].octets
                echoed_s = min(await mqtt_peer.echoed_s(plan.sections[1], tags, octets, ROUNDS))
                lines += _rows_of(form, updates[form], echoed_s)
    return lines


def _rows_of(form: str, updates: list[Updated], echoed_s: float) -> Iterator[Row]:
    what = f"one update in {form.upper()}, {SIZE:,} PN GWs over MQTT and TLS"
    answered = min(each.answered for each in updates)
    processor = min(each.processor for each in updates)
    yield Row(
        f"{what}: all have answered",
        answered,
        "s",
        "echoes to aiomqtt",
        echoed_s,
        TARGET_PEER * echoed_s,
        BEST,
    )
    yield Row(
        f"{what}: the Server's processor time for one", processor * 1000 / SIZE, "ms", target=TARGET_MS, note=BEST
    )
    yield Row(f"{what}: for one core of the Server", SIZE / processor, "PN GWs/s", target=TARGET_RATE, note=BEST)


async def _many(tell: Tell) -> list[Line]:
    """Measure updates of ten times as many PN GWs, without TLS, and what they cost in memory while they rest."""
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        tell(f"{MANY:,} PN GWs and their sessions")
        keys, known = fleet.draw(MANY)
        plan = brokers.plain(folder / "broker")
        put_fleet(folder / "none", keys[:1], known[:1], {group(1): 1})
        put_fleet(folder / "server", keys, known, {group(SIZE): SIZE, group(MANY): MANY})
        async with plan.running(), connected(keys, plan) as gateways:
            async with serving(folder / "none", plan) as server:
                alone = (await server.ask(Settle())).memory
            async with serving(folder / "server", plan) as server:
                await update(server, gateways, group(MANY), MANY)
                tell(f"one update, {SIZE:,} PN GWs")
                few = [await update(server, gateways, group(SIZE), SIZE) for _ in range(ROUNDS)]
                tell(f"one update, {MANY:,} PN GWs")
                many = [await update(server, gateways, group(MANY), MANY) for _ in range(ROUNDS_OF_MANY)]
    of_few = min(each.processor for each in few) * 1000 / SIZE
    what = f"one update, {MANY:,} PN GWs over MQTT"
    return [
        Row(
            f"{what}: the Server's processor time for one",
            min(each.processor for each in many) * 1000 / MANY,
            "ms",
            f"with {SIZE:,} PN GWs",
            of_few,
            TARGET_LINEAR * of_few,
            BEST,
        ),
        Row(f"{what}: all have it", min(each.has_it for each in many), "s", target=TARGET_MANY_S, note=BEST),
        Row(
            f"memory of the Server for one of {MANY:,} PN GWs that rest",
            (many[-1].memory - alone) / MANY,
            "KiB",
            target=TARGET_KIB,
            note="after the updates; without what the Server needs for one PN GW alone",
        ),
    ]


# The parts of a measurement


def group(size: int) -> str:
    """Return the SG ID of the group of so many PN GWs."""
    return f"fleet/{size}"


def put_fleet(
    folder: Path, keys: list[fleet.GatewayKeys], known: list[Credential], sizes: dict[str, int]
) -> Credential:
    """Make the state folder of a Server that knows these PN GWs, has sessions with them, and groups of these sizes.

    Returns the credential of the Server.
    """
    folder.mkdir(mode=0o700)
    server = fleet.put_sessions(folder, keys, known, lambda number: place_of(keys[number].gateway_id))
    fleet.put_groups(SqliteServerDatabase(folder), len(keys), sizes)
    return server


@asynccontextmanager
async def connected(keys: list[fleet.GatewayKeys], plan: BrokerPlan) -> AsyncIterator[SideProcess]:
    """Yield the process of these PN GWs, once all are connected to the broker, which runs."""
    async with side_process(mqtt_gateways.serve, keys, plan.broker, plan.folders) as gateways:
        await gateways.hear()
        yield gateways


@asynccontextmanager
async def serving(
    folder: Path, plan: BrokerPlan, process: int = 0, database_url: str | None = None
) -> AsyncIterator[SideProcess]:
    """Yield a process of the CPNS Server on this state folder, or on PostgreSQL."""
    config = ServerConfig(id=fleet.SERVER_ID, mqtt=plan.sections[process], batching_s=0)
    async with side_process(server_process.run, folder, config, database_url) as server:
        await server.hear()
        await asyncio.sleep(_SETTLE_S)
        yield server


async def update(server: SideProcess, gateways: SideProcess, sg_id: str, size: int, *others: SideProcess) -> Updated:
    """Make a new key of a group of this size and wait until all its PN GWs have answered.

    `others` are further processes of the same Server.
    """
    await asyncio.sleep(_SETTLE_S)
    before = [await each.ask(Settle()) for each in others]
    wished = await server.ask(UpdateKey(sg_id))
    async with asyncio.timeout(_GIVE_UP_S):
        reached = await gateways.ask(Expect(sg_id, wished.version, size))
        after = await server.ask(Settle())
        after_others = [await each.ask(Settle()) for each in others]
    processor = after.processor - wished.processor
    for usage, earlier in zip(after_others, before, strict=True):
        processor += usage.processor - earlier.processor
    answered = max(each.at for each in (after, *after_others))
    return Updated(reached.at - wished.at, answered - wished.at, processor, reached.octets, after.memory)
