"""A bare MQTT 3.1.1 client with QoS 1, of which thousands fit into one process; a library's client has a thread each.

It does what a PN GW's connection does: it has a last will and a persistent session, subscribes to the datagrams for it
and to the presence of its Server, says that it is there, and acknowledges what comes.
"""

import asyncio
import struct
from collections.abc import Callable

from message_plane.links import mqtt_topics

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 0x10, 2, 3, 4, 0x82, 9
_ACKNOWLEDGE, _PUBLISH_QOS_1, _RETAIN = 0x40, 0x32, 0x01
_USER, _WILL_RETAINED_QOS_1 = 0x80, 0x2C
_SUBSCRIPTION, _PRESENCE, _FIRST = 1, 2, 3  # message IDs
_IDS = 65_535


class BareClient(asyncio.Protocol):
    """One connection of the client with a tag. `ready` is done when the broker has everything, `lost` when it ends.

    `take` is called with each datagram and returns the one that is sent then, or None.
    """

    def __init__(self, tag: str, server_tag: str, take: Callable[[bytes], bytes | None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._tag = tag
        self._down = mqtt_topics.down(tag)
        self._up = _text(mqtt_topics.up(tag))
        self._presence = mqtt_topics.presence(tag)
        self._watched = mqtt_topics.presence(server_tag)
        self._take = take
        self._unread = b""
        self._number = _FIRST
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        will = _text(self._presence) + _text("0")
        head = _text("MQTT") + bytes([4, _USER | _WILL_RETAINED_QOS_1]) + bytes(2)  # no keep-alive
        transport.write(_packet(_CONNECT, head + _text(self._tag) + will + _text(self._tag)))

    def connection_lost(self, problem: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data if self._unread else data
        at, out = 0, []
        while (found := _next(unread, at)) is not None:
            kind, start, at = found
            out.append(self._packet(kind, unread[start:at]))
        self._unread = unread[at:]
        if any(out) and self._transport is not None:
            self._transport.write(b"".join(out))

    def send(self, datagram: bytes) -> None:
        """Publish a datagram to the Server."""
        if self._transport is not None:
            self._transport.write(self._published(datagram))

    def _packet(self, head: int, body: bytes) -> bytes:
        kind = head >> 4
        if kind == _PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            qos_1 = head & 0x06
            acknowledged = b"\x40\x02" + body[end : end + 2] if qos_1 else b""
            if body[2:end].decode() != self._down:
                return acknowledged
            answer = self._take(body[end + 2 if qos_1 else end :])
            return acknowledged if answer is None else acknowledged + self._published(answer)
        if kind == _CONNACK:
            if body[1]:
                raise ConnectionRefusedError(f"the broker refuses with code {body[1]}")
            topics = _text(self._down) + b"\1" + _text(self._watched) + b"\1"
            return _packet(_SUBSCRIBE, struct.pack(">H", _SUBSCRIPTION) + topics)
        if kind == _SUBACK:
            if max(body[2:]) > 1:
                raise ConnectionRefusedError("the broker refuses a subscription")
            said = _text(self._presence) + struct.pack(">H", _PRESENCE) + b"1"
            return _packet(_PUBLISH_QOS_1 | _RETAIN, said)
        if kind == _PUBACK and int.from_bytes(body[:2], "big") == _PRESENCE and not self.ready.done():
            self.ready.set_result(None)
        return b""

    def _published(self, datagram: bytes) -> bytes:
        self._number = _FIRST if self._number == _IDS else self._number + 1
        return _packet(_PUBLISH_QOS_1, self._up + struct.pack(">H", self._number) + datagram)


def _next(octets: bytes, at: int) -> tuple[int, int, int] | None:
    """Return (first octet, start, end) of the body of the packet at `at`, None if it is not there as a whole."""
    length = shift = 0
    start = at + 1
    while start < len(octets):
        length |= (octets[start] & 0x7F) << shift
        shift += 7
        start += 1
        if not octets[start - 1] & 0x80:
            end = start + length
            return (octets[at], start, end) if end <= len(octets) else None
    return None


def _packet(head: int, body: bytes) -> bytes:
    length, octets = len(body), bytearray([head])
    while True:
        length, low = length >> 7, length & 0x7F
        octets.append(low | 0x80 if length else low)
        if not length:
            return bytes(octets) + body


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()
