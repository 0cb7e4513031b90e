"""What one CPNS Server may reach one day: 10,000 PN GWs in two seconds, and 100,000 that rest in 1 GiB.

It takes minutes, so it is measured only if it is named. Nothing is judged. No machine lets one process have 100,000
connections, so the PN GWs that rest have sessions, and a presence at the broker that one client has left there.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiomqtt

from keycast.broker.own_broker import NoBroker
from message_plane.links.mqtt_section import broker_of
from message_plane.links.mqtt_topics import presence, tag_of
from tools.bench import brokers, fleet
from tools.bench.brokers import BrokerPlan
from tools.bench.mqtt import BEST, MANY, connected, group, put_fleet, serving, update
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.server_process import Settle
from tools.bench.udp_gateways import fits

RESTING = 100_000
ROUNDS = 3
_AT_ONCE = 1000
SETTLE_S = 10.0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the seconds of an update and the memory of a Server, none with a target."""
    if not fits(MANY):
        yield Skipped("moonshot", f"this machine does not let a process open a socket for each of {MANY:,} PN GWs")
        return
    try:
        yield asyncio.run(_update(tell))
        yield asyncio.run(_memory(tell))
    except NoBroker as why:
        yield Skipped("moonshot", str(why))


async def _update(tell: Tell) -> Row:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        tell(f"{MANY:,} PN GWs and their sessions")
        keys, known = fleet.draw(MANY)
        plan = brokers.plain(folder / "broker")
        put_fleet(folder / "server", keys, known, {group(MANY): MANY})
        async with (
            plan.running(),
            connected(keys, plan) as gateways,
            serving(folder / "server", plan) as server,
        ):
            await update(server, gateways, group(MANY), MANY)
            tell(f"one update, {MANY:,} PN GWs")
            seconds = min([(await update(server, gateways, group(MANY), MANY)).has_it for _ in range(ROUNDS)])
    return Row(
        f"moonshot: {MANY:,} PN GWs over MQTT have a new key (wanted: 2 s on two cores)", seconds, "s", note=BEST
    )


async def _memory(tell: Tell) -> Row:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        tell(f"{RESTING:,} PN GWs and their sessions")
        keys, known = fleet.draw(RESTING)
        plan = brokers.plain(folder / "broker", has_access_list=False)
        put_fleet(folder / "server", keys, known, {group(RESTING): RESTING})
        async with plan.running():
            tell(f"the presence of {RESTING:,} PN GWs")
            await _say_that_all_are_there(plan, [tag_of(each.gateway_id) for each in keys])
            async with serving(folder / "server", plan) as server:
                await asyncio.sleep(SETTLE_S)
                kib = (await server.ask(Settle())).memory
    return Row(f"moonshot: a Server with {RESTING:,} PN GWs that rest (wanted: 1 GiB)", kib / 1024, "MiB")


async def _say_that_all_are_there(plan: BrokerPlan, tags: list[str]) -> None:
    broker = broker_of(plan.sections[0].brokers[0])
    async with aiomqtt.Client(broker.host, broker.port, max_inflight_messages=_AT_ONCE, timeout=60) as client:
        client.pending_calls_threshold = _AT_ONCE + 1
        for at in range(0, len(tags), _AT_ONCE):
            some = tags[at : at + _AT_ONCE]
            await asyncio.gather(*(client.publish(presence(tag), b"1", qos=1, retain=True) for tag in some))
