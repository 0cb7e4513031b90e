"""One connection to one MQTT broker, on aiomqtt (MQTT 5 and 3.1.1)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY as CLEAN_START_OF_3
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from message_plane import tuning
from message_plane.links import mqtt_files, mqtt_topics, mqtt_trouble
from message_plane.links.mqtt_outbox import Outbox
from message_plane.links.mqtt_section import Broker, MqttSection, broker_of
from message_plane.links.mqtt_socket import BufferedSocket
from message_plane.links.mqtt_trouble import BrokerTrouble

HERE, GONE = b"1", b"0"  # the payloads of a presence

_QOS = 1
_PACKET_MAX = tuning.MQTT_DATAGRAM_MAX + tuning.MQTT_AROUND_DATAGRAM
_NO_SUBSCRIBER = 16  # reason code of an acknowledgement (MQTT 5, 3.4.2.1)


@dataclass(frozen=True, slots=True)
class Means:
    """What this end shows to a broker: its `tag`; `client_id`, of its own for each process; and what lets it in.

    `context` is None if no broker has TLS.
    """

    tag: str
    client_id: str
    user: str
    password: str | None = field(repr=False)
    context: ssl.SSLContext | None


def means_of(section: MqttSection, own_id: str, process: str = "") -> Means:
    """Return the means of the entity `own_id`, or of its process of that name. It reads files.

    Raises BrokerFilesRefused.
    """
    tag = mqtt_topics.tag_of(own_id)
    client_id = f"{tag}-{process}" if process else tag
    wants_tls = any(broker_of(url).tls for url in section.brokers)
    context = mqtt_files.tls_context(section.files) if wants_tls else None
    password = mqtt_files.password_of(section.files)
    user = section.user or (tag if password else "")
    return Means(tag, client_id, user, password, context)


# Called with the topic and the payload of a message, and whether its sender asked the broker to keep it (retained).
Arrived = Callable[[str, bytes, bool], None]


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
        self._client = _Client(broker, means, arrived, self._acknowledged, is_5=is_5, clean=clean)
        self._expiry = _EXPIRES if is_5 else None

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
        how: Any = SubscribeOptions(qos=_QOS, retainAsPublished=True) if self._is_5 else _QOS
        try:
            reasons: Any = await self._client.subscribe([(topic, how) for topic in topics])
        except aiomqtt.MqttError as problem:
            raise mqtt_trouble.lost(self.broker, problem) from None
        for topic, reason in zip(topics, reasons, strict=False):
            if mqtt_trouble.is_refusal(reason):
                raise mqtt_trouble.topic_refused(self.broker, topic, "read", self._user)

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

    @property
    def _user(self) -> str:
        return self._means.user or self._means.tag

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

    def _acknowledged(self, number: int, reason: Any) -> None:
        topic = self._open.pop(number, None)
        if topic is not None:
            self._outbox.acknowledged()
            self._send_waiting()
        if reason.value == _NO_SUBSCRIBER:
            self._counters["mqtt_without_subscriber"] += topic is not None
        elif mqtt_trouble.is_refusal(reason):
            self._counters["mqtt_refused"] += 1
            topic = topic or mqtt_topics.presence(self._means.tag)
            self._refused(mqtt_trouble.topic_refused(self.broker, topic, "write", self._user))


class _NoAnswer(aiomqtt.MqttError):
    """The broker has ended the connection before it has answered."""


class _NothingTwice(OrderedDict[int, Any]):
    """The messages that paho keeps until a broker has sent the second half of QoS 2, for which this end never asked."""

    def __setitem__(self, number: int, message: Any) -> None:
        raise aiomqtt.MqttError("the broker sends a message with QoS 2")


class _Client(aiomqtt.Client):
    """aiomqtt's client without a queue or a task for each message.

    Its own `messages` and `publish` start a task each, and look through all pending calls, which costs ten times what
    the message does. So the methods that paho calls are overridden here, and what is published is not waited for.
    """

    def __init__(
        self,
        broker: Broker,
        means: Means,
        arrived: Arrived,
        acknowledged: Callable[[int, Any], None],
        *,
        is_5: bool,
        clean: bool,
    ) -> None:
        ear = _Ear()
        properties = None
        if is_5:
            properties = _properties(
                PacketTypes.CONNECT,
                SessionExpiryInterval=0 if clean else tuning.MQTT_EXPIRES_S,
                MaximumPacketSize=_PACKET_MAX,
            )
        super().__init__(
            broker.host,
            broker.port,
            username=means.user or None,
            password=means.password,
            logger=ear.logger,
            identifier=means.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if is_5 else aiomqtt.ProtocolVersion.V311,
            will=None if clean else aiomqtt.Will(mqtt_topics.presence(means.tag), GONE, _QOS, retain=True),
            clean_session=None if is_5 else clean,
            clean_start=clean if is_5 else CLEAN_START_OF_3,
            timeout=tuning.MQTT_CONNECT_S,
            keepalive=tuning.MQTT_KEEP_ALIVE_S,
            max_inflight_messages=0,  # `Outbox` has the limit
            properties=properties,
            tls_context=means.context if broker.tls else None,
        )
        self._broker = broker
        self._arrived = arrived
        self._acknowledged = acknowledged
        self._limits: Any = None
        self._ear = ear
        self._problem: BaseException | None = None  # of the thread that connects

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected()

    async def connect(self) -> None:
        """Connect, and wait until the broker has let this end in. Raises BrokerTrouble."""
        # A thread connects, which cannot be cancelled, so this waits for it even if it is cancelled.
        connecting = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(connecting)
        except aiomqtt.MqttError as problem:
            self._drop()
            if self._problem is None and not isinstance(problem, (aiomqtt.MqttCodeError, _NoAnswer)):
                self._problem = TimeoutError()
            raise mqtt_trouble.not_connected(self._broker, self._problem or problem, self._ear.heard) from None
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError):
                await connecting
            self._drop()
            raise

    def limit(self, name: str, default: int) -> int:
        """Return what the broker has said at connecting about itself, such as `ReceiveMaximum`."""
        return int(getattr(self._limits, name, default))

    def publish_now(self, topic: str, payload: bytes, properties: Any = None, *, retain: bool = False) -> int | None:
        """Publish without waiting; return the message ID, under which it is acknowledged, None if it cannot be sent."""
        info = self._client.publish(topic, payload, _QOS, retain, properties)
        return info.mid if info.rc == 0 else None

    async def ended(self) -> BaseException | None:
        """Wait until the connection has ended. Return the exception that says why, None if this end has ended it."""
        await asyncio.wait([self._disconnected])
        return self._disconnected.exception()

    async def end(self) -> None:
        """End the connection, in order if that is possible."""
        if self.is_connected:
            with suppress(aiomqtt.MqttError):
                await self.__aexit__(None, None, None)
        self._drop()

    # Private

    def _drop(self) -> None:
        self._client._sock_close()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # marks it as retrieved

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        except (OSError, ValueError) as problem:  # ValueError: the name cannot be that of a host
            self._problem = problem
            raise OSError(str(problem)) from None

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        def shorten(rest: int) -> None:
            client._in_packet["to_process"] -= rest

        client._sock = BufferedSocket(sock, _PACKET_MAX, shorten)
        client._in_messages = _NothingTwice()
        super()._on_socket_open(client, userdata, client._sock)

    def _on_socket_close(self, client: Any, userdata: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())
        super()._on_socket_close(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._add_writer, sock)

    def _add_writer(self, sock: BufferedSocket) -> None:
        if sock.fileno() >= 0:  # it was not closed since
            self._loop.add_writer(sock.fileno(), self._write, sock)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        """Do nothing, because what paho has sent may still wait in the socket."""

    def _write(self, sock: BufferedSocket) -> None:
        try:
            self._client.loop_write()
            if sock.flush() and not self._client.want_write() and sock.fileno() >= 0:
                self._loop.remove_writer(sock.fileno())
        except Exception as problem:  # noqa: BLE001 - as in the base class: the connection is broken
            if not self._disconnected.done():
                self._disconnected.set_exception(problem)

    async def _misc_loop(self) -> None:
        while self._client.loop_misc() == 0:  # a dead connection may be noticed later than after the base class's 1 s
            await asyncio.sleep(tuning.MQTT_KEEP_ALIVE_S / 6)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self._limits = properties
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():  # the base class would wait for an answer until its time is over
            self._connected.set_exception(_NoAnswer("the connection has ended"))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._arrived(topic, message.payload, message.retain)
        if len(client._out_packet) > tuning.MQTT_UNSENT_MAX:
            raise aiomqtt.MqttError("the broker sends, and reads nothing")

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        self._acknowledged(mid, reason_code)


def _properties(packet: int, **values: int) -> Any:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


class _Expires(Properties):
    """The expiry of a datagram, encoded once for all."""

    _encoded = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=tuning.MQTT_EXPIRES_S).pack()

    def pack(self) -> bytes:
        return bytes(self._encoded)


_EXPIRES = _Expires(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]


class _Ear(logging.Handler):
    """Hears what the library logs about errors of the socket, which it tells in no other way. `heard` is the last.

    Nothing of it goes to the log, because its lines name no broker and no next step.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard = ""
        self.logger = logging.Logger("MQTT of one connection", logging.ERROR)  # below no other logger
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.heard = str(record.args[0]) if isinstance(record.args, tuple) and record.args else record.getMessage()
