"""Tries each broker of a gateway's uplink, as `keycast gateway check` does, and names what a broker has refused.

The trial has a clean session and no presence, so no key is taken from the gateway, and the CPNS Server sends none. It
asks the Server for nothing but the answer to an empty message (RFC 7252, 4.3), which shows that both topics of the
gateway are open.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass

from gateway_agent.uplinks.mqtt import MqttUplinkSection
from message_plane.links import mqtt_topics, mqtt_trouble
from message_plane.links.mqtt_client import HERE, Means, means_of
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_section import Broker, broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble

ANSWER_S = 5.0
_PING = b"\x40\x00\x6b\x63"  # an empty confirmable message of CoAP


@dataclass(frozen=True, slots=True)
class BrokerTrial:
    """How a broker has treated this gateway. `problem`: what is wrong with the next step, "" for nothing.

    `server_is_there`: the CPNS Server has answered by it.
    """

    url: str
    problem: str
    server_is_there: bool


async def try_brokers(section: MqttUplinkSection, gateway_id: str) -> list[BrokerTrial]:
    """Try all brokers of `section` at once. Raises BrokerFilesRefused if a file cannot be used."""
    means = means_of(section, gateway_id, "check")
    tries = (_try(broker_of(url), section, means) for url in section.brokers)
    return list(await asyncio.gather(*tries))


async def _try(broker: Broker, section: MqttUplinkSection, means: Means) -> BrokerTrial:
    try:
        try:
            is_there = await _exchange(broker, section, means, is_5=section.version == "5")
        except BrokerTrouble as trouble:
            if not trouble.of_version or section.version != "5":
                raise
            is_there = await _exchange(broker, section, means, is_5=False)
    except BrokerTrouble as trouble:
        return BrokerTrial(str(broker), str(trouble), server_is_there=False)
    return BrokerTrial(str(broker), "", is_there)


async def _exchange(broker: Broker, section: MqttUplinkSection, means: Means, *, is_5: bool) -> bool:
    """Return True if the Server answers by this broker, False if it is not connected there. Raises BrokerTrouble."""
    up, down = mqtt_topics.up(means.tag), mqtt_topics.down(means.tag)
    presence = mqtt_topics.presence(mqtt_topics.tag_of(section.server_id))
    answered, refused = asyncio.Event(), asyncio.Event()
    told: dict[str, bytes] = {}
    refusals: list[BrokerTrouble] = []

    def arrived(topic: str, payload: bytes, retained: bool) -> None:
        told[topic] = payload
        if topic == down:
            answered.set()

    def refuse(trouble: BrokerTrouble) -> None:
        refusals.append(trouble)
        refused.set()

    connection = BrokerConnection(broker, means, arrived, refuse, Counter(), is_5=is_5, clean=True)
    try:
        await connection.open()
        await connection.subscribe([down, presence])
        connection.publish(up, _PING)
        lost = asyncio.create_task(connection.lost())
        waits = [lost, *(asyncio.create_task(each.wait()) for each in (answered, refused))]
        await asyncio.wait(waits, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if lost.done() and not lost.cancelled():
            raise lost.result()
    finally:
        await connection.close()
    if refusals:
        raise refusals[0]
    if not answered.is_set() and told.get(presence) == HERE:
        # No broker says that it delivers nothing, and with MQTT 3.1.1 none says that it takes nothing.
        raise mqtt_trouble.unanswered(broker, up, down, section.user or means.tag)
    return answered.is_set()
