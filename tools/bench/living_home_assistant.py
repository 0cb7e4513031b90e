"""The discovery of a home with a thousand boards over MQTT: from what a snapshot shows to the last message at a broker.

The peer is bare aiomqtt, which publishes the same payloads, made before, with the same number of them on the way.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiomqtt

from gateway_agent.home_assistant.documents import Message
from gateway_agent.home_assistant.home_broker import OPEN_MAX, HomeBroker, means_of
from gateway_agent.home_assistant.naming import MqttNames
from gateway_agent.home_assistant.publisher import Publisher
from gateway_agent.home_assistant.section import HomeAssistantSection
from gateway_agent.home_assistant.shown import ShownBoard, ShownGateway, ShownGroup, ShownHome
from keycast.broker import own_broker
from keycast.broker.own_broker import NoBroker
from keycast.free_ports import free_port
from message_plane.links.mqtt_section import broker_of
from tools.bench.rows import Line, Row, Skipped, Tell

BOARDS, GROUPS, ROUNDS = 1000, 8, 3
TARGET_PEER = 1.5
_NAMES = MqttNames("keycast", "homeassistant", "gw.bench")
_BEST = f"best of {ROUNDS}"


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the time of the discovery beside that of the peer."""
    tell(f"discovery of {BOARDS:,} boards over MQTT")
    try:
        ours, peer = asyncio.run(_measured())
    except NoBroker as why:
        yield Skipped("Home Assistant", str(why))
        return
    name = f"discovery of {BOARDS:,} boards over MQTT: the broker has it"
    yield Row(name, ours, "s", "the same payloads to aiomqtt", peer, TARGET_PEER * peer, _BEST)


async def _measured() -> tuple[float, float]:
    own_broker.mosquitto()
    port = free_port()
    section = HomeAssistantSection(broker=f"mqtt://{own_broker.LOOPBACK}:{port}")
    home = _home()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "mosquitto.conf"
        configuration.write_text(f"listener {port}\nallow_anonymous true\nmax_inflight_messages 0\n")
        async with own_broker.running(configuration, port):
            ours, peer = [], []
            for _ in range(ROUNDS):
                ours.append(await _ours(section, home))
                peer.append(await _peer(section, list(_publisher().announcements(home))))
    return min(ours), min(peer)


def _home() -> ShownHome:
    boards = [
        ShownBoard(f"board.{number:04}", "1.0", True, 1_800_000_000, 1_800_000_000, "wifi", "0.7", (("home/0", "0.7"),))
        for number in range(BOARDS)
    ]
    groups = [ShownGroup(f"home/{number}", "0.7", BOARDS // GROUPS, 0, 0) for number in range(GROUPS)]
    return ShownHome(ShownGateway("1.0", "1.0", True, ()), tuple(groups), tuple(boards))


def _publisher() -> Publisher:
    return Publisher(_NAMES, "1.0", ("update",))


async def _ours(section: HomeAssistantSection, home: ShownHome) -> float:
    means = means_of(section, _NAMES)
    connection = HomeBroker(section, _NAMES, means, lambda *_: None, lambda _: None, is_5=True)
    await connection.open()
    try:
        begun = time.monotonic()
        publisher = _publisher()
        publisher.look(home)
        for message in publisher.announcements(home):
            await connection.put(*message)
        await connection.settled()
        return time.monotonic() - begun
    finally:
        await connection.close()


async def _peer(section: HomeAssistantSection, messages: Sequence[Message]) -> float:
    broker = broker_of(section.broker)
    async with aiomqtt.Client(broker.host, broker.port, max_inflight_messages=OPEN_MAX, timeout=60) as client:
        client.pending_calls_threshold = len(messages) + 1  # no warning about as many
        begun = time.monotonic()
        await asyncio.gather(*(client.publish(topic, payload, qos=1, retain=True) for topic, payload in messages))
        return time.monotonic() - begun
