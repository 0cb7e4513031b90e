"""Bare aiomqtt in the place of the CPNS Server: it publishes one message for each PN GW and waits for the echoes."""

import asyncio
import secrets
import time
from collections.abc import Sequence

import aiomqtt

from message_plane.links import mqtt_files, mqtt_topics
from message_plane.links.mqtt_section import MqttSection, broker_of
from tools.bench.pn_gateways import BARE

_IN_FLIGHT = 500  # as many as the product has; aiomqtt alone would have 20
_CONNECT_S = 60.0


async def echoed_s(section: MqttSection, tags: Sequence[str], octets: int, rounds: int) -> list[float]:
    """Return for each round the seconds until an echo of `octets` octets is back from each PN GW.

    The user of `section` may publish to all of them, and read what all of them publish.
    """
    broker = broker_of(section.brokers[0])
    times = []
    async with aiomqtt.Client(
        broker.host,
        broker.port,
        identifier="bench-peer",
        username=section.user or None,
        tls_context=mqtt_files.tls_context(section.files) if broker.tls else None,
        max_inflight_messages=_IN_FLIGHT,
        timeout=_CONNECT_S,
    ) as client:
        client.pending_calls_threshold = len(tags) + 1  # no warning about as many
        await client.subscribe("keycast/1/up/+/+", qos=1)
        for _ in range(rounds):
            payload = BARE + secrets.token_bytes(octets - 1)
            times.append(await _round(client, tags, payload))
    return times


async def _round(client: aiomqtt.Client, tags: Sequence[str], payload: bytes) -> float:
    begun = time.monotonic()
    publications = asyncio.gather(*(client.publish(mqtt_topics.down(tag), payload, qos=1) for tag in tags))
    missing = set(tags)
    async for message in client.messages:
        if message.payload == payload:
            missing.discard(str(message.topic).rpartition("/")[2])
        if not missing:
            break
    seconds = time.monotonic() - begun
    await publications
    return seconds
