"""A thousand PN GWs come back at once over MQTT and TLS: after a restart of the broker, and after a loss of sessions.

The peers are the same clients alone, without a CPNS Server that has something for them, and the EDHOC responder alone.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from keycast.broker.own_broker import NoBroker
from message_plane import tuning
from message_plane.identity import OwnIdentity
from tools.bench import brokers, fleet, handshakes
from tools.bench.brokers import BrokerPlan
from tools.bench.mqtt import connected, group, put_fleet, serving
from tools.bench.mqtt_gateways import AllBack, ShakeHands, Shaken
from tools.bench.pn_gateways import Expect
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.server_process import Settle, Updated, UpdateKey, Usage
from tools.bench.side_process import SideProcess
from tools.bench.udp_gateways import fits

SIZE = 1000
ROUNDS = 3
STABLE_S = tuning.MQTT_STABLE_S  # so that no end takes the broker for one that comes and goes
TARGET_RESTART, TARGET_HANDSHAKES = 2.0, 0.5
_GIVE_UP_S = 300.0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the seconds until all are back and have the newest key, and handshakes a second."""
    if not fits(SIZE):
        yield Skipped("MQTT", f"this machine does not let a process open a socket for each of {SIZE:,} PN GWs")
        return
    try:
        yield from asyncio.run(_returns(tell))
    except NoBroker as why:
        yield Skipped("MQTT", str(why))


async def _returns(tell: Tell) -> list[Line]:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        tell(f"{SIZE:,} certificates and sessions")
        keys, known = fleet.draw(SIZE)
        plan = brokers.with_tls(folder / "broker", [each.gateway_id for each in keys], processes=1)
        credential = put_fleet(folder / "server", keys, known, {group(SIZE): SIZE})
        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(plan.running())
            gateways = await stack.enter_async_context(connected(keys, plan))
            alone, ours, made, made_by_core = [], [], [], []
            for number in range(ROUNDS):
                tell(f"restart {number + 1} of the broker, its clients alone")
                broker, seconds = await _restart(stack, plan, broker, gateways, None)
                alone.append(seconds)
            async with serving(folder / "server", plan) as server:
                for number in range(ROUNDS):
                    tell(f"restart {number + 1} of the broker, a new key meanwhile")
                    broker, seconds = await _restart(stack, plan, broker, gateways, server)
                    ours.append(seconds)
            for number in range(ROUNDS):
                tell(f"{SIZE:,} handshakes, {number + 1}")
                fleet.discard_sessions(folder / "server")
                async with serving(folder / "server", plan) as server, asyncio.timeout(_GIVE_UP_S):
                    before: Usage = await server.ask(Settle())
                    shaken: Shaken = await gateways.ask(ShakeHands(credential))
                    after: Usage = await server.ask(Settle())
                made.append(SIZE / (shaken.ended - shaken.begun))
                made_by_core.append(SIZE / (after.processor - before.processor))
    tell("the EDHOC responder alone")
    server_alone, gateway = OwnIdentity.new("cpns.bench", "server"), OwnIdentity.new("gw.bench", "gateway")
    responder = max(handshakes.responder_rate(server_alone, gateway) for _ in range(ROUNDS))
    note = "best of a few; the broker, the Server and the PN GWs share this machine"
    return [
        Row(
            f"restart of the broker, {SIZE:,} PN GWs over MQTT and TLS: all are back and have the newest key",
            min(ours),
            "s",
            "the clients alone are connected",
            min(alone),
            TARGET_RESTART * min(alone),
            f"{note}; the clients wait between attempts as PN GWs do",
        ),
        Row(
            f"restart of the Server without sessions, {SIZE:,} PN GWs over MQTT and TLS",
            max(made),
            "handshakes/s",
            "EDHOC responder alone",
            responder,
            TARGET_HANDSHAKES * responder,
            note,
        ),
        Row(
            f"restart of the Server without sessions, {SIZE:,} PN GWs over MQTT and TLS: for one core of the Server",
            max(made_by_core),
            "handshakes/s",
            "EDHOC responder alone",
            responder,
            note=f"{note}; with the first message on each session",
        ),
    ]


async def _restart(
    stack: AsyncExitStack,
    plan: BrokerPlan,
    broker: asyncio.subprocess.Process,
    gateways: SideProcess,
    server: SideProcess | None,
) -> tuple[asyncio.subprocess.Process, float]:
    """End the broker and start it again; return it, and the seconds until all PN GWs have what they should have.

    With a `server` that is a new key, which is made while there is no broker.
    """
    await asyncio.sleep(STABLE_S)
    begun = time.monotonic()
    broker.terminate()
    await broker.wait()
    updated: Updated | None = None if server is None else await server.ask(UpdateKey(group(SIZE)))
    broker = await stack.enter_async_context(plan.running())
    async with asyncio.timeout(_GIVE_UP_S):
        back = await gateways.ask(AllBack())
        if updated is not None:
            reached = await gateways.ask(Expect(group(SIZE), updated.version, SIZE))
            back = max(back, reached.at)
    return broker, back - begun
