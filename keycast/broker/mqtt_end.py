"""One connection to a broker, for the trial of it: it notes what the broker grants, refuses and delivers.

Callbacks of paho run in a thread of its own; all methods here block until the broker has answered, or LIMIT_S.
"""

import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from message_plane.links.mqtt_section import Broker
from message_plane.links.mqtt_trouble import not_connected

LIMIT_S = 5.0
_LOOK_S = 0.1
_SESSION_S = 300  # what a trial that was cut off leaves in the broker ends after this
VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True)
class Login:
    """Who a client is for the broker: by a certificate in `context`, by a user name and a password, or neither."""

    context: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class MqttEnd:
    """A client. `present`: whether the broker still had its session; `granted`: QoS of each topic filter, or a reason.

    `cut_off` is why the connection has ended, None while it has not.
    """

    def __init__(
        self,
        broker: Broker,
        login: Login,
        client_id: str,
        version: str,
        will: tuple[str, bytes] | None = None,
        stays: bool = False,
    ) -> None:
        """`will` is the last will, a topic and what is retained there. A session that `stays` outlives a connection."""
        self.present = False
        self.granted: dict[str, int | str] = {}
        self.cut_off: str | None = None
        self.heard: list[paho.MQTTMessage] = []
        self._arrived: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._changed = threading.Condition()
        self._said = ""
        self._connack: ReasonCode | None = None
        self._acknowledged: dict[int, ReasonCode] = {}
        self._subscribed: dict[int, list[ReasonCode]] = {}
        self._broker, self._is_v5, self._stays = broker, version == "5", stays
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            None if self._is_v5 else not stays,
            protocol=VERSIONS[version],
            reconnect_on_failure=False,
        )
        client.connect_timeout = LIMIT_S
        client.max_inflight_messages_set(1000)
        if login.context is not None:
            client.tls_set_context(login.context)
        if login.user is not None:
            client.username_pw_set(login.user, login.password)
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish = self._on_subscribe, self._on_publish
        client.on_log = self._on_log
        client.on_message = lambda _client, _, message: self._arrived.put(message)

    def connect(self) -> "MqttEnd":
        """Connect, to the present session if it `stays`. Raise BrokerTrouble."""
        how: dict[str, Any] = {}
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S if self._stays else 0
            how = {"clean_start": not self._stays, "properties": properties}
        try:
            self._client.connect(self._broker.host, self._broker.port, keepalive=30, **how)
        except (OSError, ValueError) as error:
            raise not_connected(self._broker, error) from None
        self._client.loop_start()
        self._wait(lambda: self._connack is not None or self.cut_off is not None)
        if self._connack is None or self._connack.is_failure:
            self._client.loop_stop()
            silence = TimeoutError() if self.cut_off is None else aiomqtt.MqttError()
            problem = silence if self._connack is None else aiomqtt.MqttCodeError(self._connack)
            raise not_connected(self._broker, problem, self._said)
        return self

    def subscribe(self, *topics: str) -> None:
        """Subscribe with QoS 1, and note in `granted` what the broker answers."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        self._wait(lambda: mid in self._subscribed or self.cut_off is not None)
        for topic, code in zip(topics, self._subscribed.get(mid or 0, []), strict=False):
            self.granted[topic] = str(code) if code.is_failure else code.value

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> str:
        """Publish with QoS 1. Return "" once the broker has taken it, or else why it has not."""
        return self.publish_all([(topic, payload)], retain)

    def publish_all(self, messages: list[tuple[str, bytes]], retain: bool = False) -> str:
        """Publish all of them without waiting in between. Return "" or why the first one that failed was not taken."""
        sent = [self._client.publish(topic, payload, 1, retain).mid for topic, payload in messages]
        self._wait(lambda: self._acknowledged.keys() >= set(sent) or self.cut_off is not None)
        for mid in sent:
            code = self._acknowledged.get(mid)
            if code is None:
                return self.cut_off or "the broker does not acknowledge it"
            if code.is_failure:
                return str(code)
        return ""

    def wait_for(self, topic: str, payload: bytes | None = None) -> paho.MQTTMessage | None:
        """Return the next message at `topic`, with that payload if one is named; None if none comes."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            is_over = self.cut_off is not None  # before the look: nothing arrives after it
            try:
                message = self._arrived.get(not is_over, _LOOK_S)
            except queue.Empty:
                if is_over:
                    break
                continue
            self.heard.append(message)
            if message.topic == topic and payload in (None, message.payload):
                return message
        return None

    def has_heard(self, topic: str, payload: bytes) -> bool:
        """Return True if that message is among those that `wait_for` has passed."""
        return any(each.topic == topic and each.payload == payload for each in self.heard)

    def cut(self) -> None:
        """Let the connection break, without a word to the broker."""
        found = self._client.socket()
        if found is not None:
            raw: Any = found
            raw.shutdown(socket.SHUT_RDWR)
        self._wait(lambda: self.cut_off is not None)
        self._client.loop_stop()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, true: Any) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(true, LIMIT_S))

    def _on_log(self, _client: Any, _: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:  # a TLS alert is told in no other way
            self._said = text

    def _on_connect(self, _client: Any, _: Any, flags: Any, code: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._connack, self.present = code, flags.session_present
            self._changed.notify_all()

    def _on_disconnect(self, _client: Any, _: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self.cut_off = str(code)
            self._changed.notify_all()

    def _on_subscribe(self, _client: Any, _: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        with self._changed:
            self._subscribed[mid] = codes
            self._changed.notify_all()

    def _on_publish(self, _client: Any, _: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._acknowledged[mid] = code
            self._changed.notify_all()
