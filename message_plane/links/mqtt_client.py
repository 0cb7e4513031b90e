"""aiomqtt's client with short ways for the two packets that come by the thousand."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt import client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from message_plane import tuning
from message_plane.links import mqtt_files, mqtt_topics, mqtt_trouble
from message_plane.links.mqtt_section import Broker, MqttSection, broker_of
from message_plane.links.mqtt_socket import BufferedSocket

HERE, GONE = b"1", b"0"  # the payloads of a presence

QOS = 1
_PACKET_MAX = tuning.MQTT_DATAGRAM_MAX + tuning.MQTT_AROUND_DATAGRAM


@dataclass(frozen=True, slots=True)
class Means:
    """What this end shows to a broker: its `tag`; `client_id`, of its own for each process; and what lets it in.

    `known_as`: the name by which access lists know it, `user` or the CN of its certificate. `context` is None if no
    broker has TLS.
    """

    tag: str
    client_id: str
    user: str
    password: str | None = field(repr=False)
    context: ssl.SSLContext | None
    known_as: str


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
    known_as = user or (context and mqtt_files.common_name(section.files)) or tag
    return Means(tag, client_id, user, password, context, known_as)


# Called with the topic and the payload of a message, and whether its sender asked the broker to keep it (retained).
Arrived = Callable[[str, bytes, bool], None]


class _NoAnswer(aiomqtt.MqttError):
    """The broker has ended the connection before it has answered."""


class _NothingTwice(OrderedDict[int, Any]):
    """The messages that paho keeps until a broker has sent the second half of QoS 2, for which this end never asked."""

    def __setitem__(self, number: int, message: Any) -> None:
        raise aiomqtt.MqttError("the broker sends a message with QoS 2")


class _Packets(mqtt.Client):
    """paho's client, in which a message with QoS 1 and its acknowledgement cost a third of what they do there.

    What is published is not kept until it is acknowledged, as nothing is sent again on another connection.
    """

    arrived: Arrived
    acknowledged: Callable[[int, int], None]

    def publish_now(self, topic: str, payload: bytes, properties: Properties | None, retain: bool) -> int | None:
        """Publish a message; return its message ID, None if it cannot be sent."""
        number = self._mid_generate()
        sent = self._send_publish(number, topic.encode(), payload, QOS, retain, properties=properties)
        return number if sent == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def _handle_publish(self) -> MQTTErrorCode:
        flags, packet = self._in_packet["command"], self._in_packet["packet"]
        if flags >> 1 & 3 != QOS:
            return super()._handle_publish()
        try:
            end = 2 + int.from_bytes(packet[:2])
            topic, number = packet[2:end].decode("utf-8", "replace"), int.from_bytes(packet[end : end + 2])
            begin = end + 2 if self._protocol != mqtt.MQTTv5 else _after_properties(packet, end + 2)
        except IndexError:
            begin, number = len(packet) + 1, 0
        if begin > len(packet) or not number:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.arrived(topic, bytes(packet[begin:]), bool(flags & 1))
        return self._send_puback(number)

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.acknowledged(int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _after_properties(packet: bytearray, at: int) -> int:
    """Return where the properties end that begin at `at` with their length (MQTT 5, 2.2.2.1). Raises IndexError."""
    length = shift = 0
    while True:
        octet = packet[at]
        at += 1
        length |= (octet & 127) << shift
        shift += 7
        if octet < 128 or shift > 28:
            return at + length


class BrokerClient(aiomqtt.Client):
    """aiomqtt's client without a queue or a task for each message.

    Its own `messages` and `publish` start a task each, and look through all pending calls, which costs ten times what
    the message does. Here `arrived` is called with each message, and what is published is not waited for:
    `acknowledged` is called with its message ID and the reason code of the broker.
    """

    def __init__(
        self,
        broker: Broker,
        means: Means,
        arrived: Arrived,
        acknowledged: Callable[[int, int], None],
        will: aiomqtt.Will | None,
        *,
        is_5: bool,
        clean: bool,
    ) -> None:
        """`will`: what the broker says when it loses the connection. The others are as in `BrokerConnection`."""
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
            will=will,
            clean_session=None if is_5 else clean,
            clean_start=clean if is_5 else mqtt.MQTT_CLEAN_START_FIRST_ONLY,
            timeout=tuning.MQTT_CONNECT_S,
            keepalive=tuning.MQTT_KEEP_ALIVE_S,
            max_inflight_messages=0,  # `Outbox` has the limit
            properties=properties,
            tls_context=means.context if broker.tls else None,
        )
        self._broker = broker
        self._arrived = arrived
        packets: Any = self._client
        packets.__class__ = _Packets  # aiomqtt makes paho's client itself
        packets.arrived, packets.acknowledged = self._message, acknowledged
        self._packets = packets
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
        number: int | None = self._packets.publish_now(topic, payload, properties, retain)
        return number

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
        self._message(topic, message.payload, message.retain)

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        self._arrived(topic, payload, retained)
        if len(self._client._out_packet) > tuning.MQTT_UNSENT_MAX:
            raise aiomqtt.MqttError("the broker sends, and reads nothing")


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


EXPIRES = _Expires(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]


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
