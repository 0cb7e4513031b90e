"""One connection to one MQTT broker, on aiomqtt (MQTT 5 and 3.1.1)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from message_plane import tuning
from message_plane.links import mqtt_topics, mqtt_trouble
from message_plane.links.mqtt_client import EXPIRES, GONE, HERE, QOS, Arrived, BrokerClient, Means
from message_plane.links.mqtt_outbox import Outbox
from message_plane.links.mqtt_section import Broker
from message_plane.links.mqtt_trouble import BrokerTrouble

_NO_SUBSCRIBER = 16  # reason code of an acknowledgement (MQTT 5, 3.4.2.1)


class BrokerConnection:
    """The connection to `broker`, from `open` until `lost` returns. It is made anew for each attempt.

    `counters` counts `mqtt_dropped` (no room), `mqtt_refused` (the broker does not let this end publish there) and
    `mqtt_without_subscriber` (nobody is connected at the broker, or has a session there, that gets the datagram).
    """

    def __init__(
        self,
        broker: Broker,
        means: Means,
        arrived: Arrived,
        refused: Callable[[BrokerTrouble], None],
        counters: Counter[str],
        *,
        is_5: bool,
        clean: bool = False,
    ) -> None:
        """`refused` is called with each topic at which this end may not publish. `is_5`: MQTT 5, else 3.1.1; `clean`:
        the broker forgets what it has kept for this client ID, and again when the connection ends, which it tells
        nobody."""
        self.broker = broker
        self._means = means
        self._refused = refused
        self._counters = counters
        self._is_5 = is_5
        self._said = GONE
        self._say_again: asyncio.TimerHandle | None = None
        self._outbox = Outbox()
        self._packet_max = 0  # 0: no limit is known
        self._open: dict[int, str] = {}  # message ID -> topic of what the broker has not acknowledged
        will = None if clean else aiomqtt.Will(mqtt_topics.presence(means.tag), GONE, QOS, retain=True)
        self._client = BrokerClient(broker, means, arrived, self._acknowledged, will, is_5=is_5, clean=clean)
        self._expiry = EXPIRES if is_5 else None

    async def open(self) -> None:
        """Connect. What the broker has kept for this end arrives from now on. Raises BrokerTrouble."""
        await self._client.connect()
        open_max = self._client.limit("ReceiveMaximum", tuning.MQTT_OPEN_MAX + 1) - 1  # one is for the presence
        self._outbox = Outbox(max(1, min(tuning.MQTT_OPEN_MAX, open_max)))
        self._packet_max = self._client.limit("MaximumPacketSize", 0)

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to topics. Raises BrokerTrouble if one is refused, or the connection is lost."""
        if not topics:
            return
        how: Any = SubscribeOptions(qos=QOS, retainAsPublished=True) if self._is_5 else QOS
        try:
            reasons: Any = await self._client.subscribe([(topic, how) for topic in topics])
        except aiomqtt.MqttError as problem:
            raise mqtt_trouble.lost(self.broker, problem) from None
        for topic, reason in zip(topics, reasons, strict=False):
            if mqtt_trouble.is_refusal(reason):
                raise mqtt_trouble.topic_refused(self.broker, topic, "read", self._means.known_as)

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """End subscriptions. Does nothing if the connection is lost meanwhile."""
        with suppress(aiomqtt.MqttError):
            if topics:
                await self._client.unsubscribe(list(topics))

    def say(self, presence: bytes) -> None:
        """Publish the presence of this end, HERE or GONE, which the broker keeps. It says GONE itself when it has lost
        the connection."""
        self._said = presence
        self.keep(mqtt_topics.presence(self._means.tag), presence)

    def say_again(self) -> None:
        """Say HERE again soon, if it was said. A call while one is due changes nothing."""
        if self._say_again is None and self._said == HERE:
            self._say_again = asyncio.get_running_loop().call_later(tuning.MQTT_SAY_AGAIN_S, self._say_here)

    def keep(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish what the broker keeps for those who subscribe later; it forgets with an empty payload."""
        self._client.publish_now(topic, payload, retain=retain)

    def publish(self, topic: str, datagram: bytes) -> None:
        """Publish a datagram, now or when the broker has acknowledged enough of the earlier ones.

        Raises OSError if the broker takes no message of this length.
        """
        if self._packet_max and len(datagram) + tuning.MQTT_AROUND_DATAGRAM > self._packet_max:
            raise OSError("longer than a message of this broker")
        dropped = self._outbox.dropped
        self._outbox.put(topic, datagram)
        self._counters["mqtt_dropped"] += self._outbox.dropped - dropped
        self._send_waiting()

    async def lost(self) -> BrokerTrouble:
        """Wait until the connection is lost and return why."""
        return mqtt_trouble.lost(self.broker, await self._client.ended())

    async def close(self) -> None:
        """Say that this end is gone, if it was here and the broker still listens, and end the connection."""
        if self._say_again is not None:
            self._say_again.cancel()
        if self._said == HERE and self._client.is_connected:
            self.say(GONE)
        await self._client.end()

    # Private

    def _say_here(self) -> None:
        self._say_again = None
        self.say(HERE)

    def _send_waiting(self) -> None:
        while (waiting := self._outbox.take()) is not None:
            topic, datagram = waiting
            number = self._client.publish_now(topic, datagram, self._expiry)
            if number is None:
                self._outbox.acknowledged()
                return
            self._open[number] = topic

    def _acknowledged(self, number: int, reason: int) -> None:
        topic = self._open.pop(number, None)
        if topic is not None:
            self._outbox.acknowledged()
            self._send_waiting()
        if reason == _NO_SUBSCRIBER:
            self._counters["mqtt_without_subscriber"] += topic is not None
        elif reason >= mqtt_trouble.REFUSED:
            self._counters["mqtt_refused"] += 1
            topic = topic or mqtt_topics.presence(self._means.tag)
            self._refused(mqtt_trouble.topic_refused(self.broker, topic, "write", self._means.known_as))
