"""An MQTT broker inside the process of a test, for what no real one does when it is asked to.

It runs on the test's own loop, so that its tests go by virtual time. It knows as much of MQTT 5 and 3.1.1 as the link
uses: QoS 0 and 1, sessions that stay, retained messages, wills, and reason codes.
"""

import asyncio
import contextlib
import struct

from keycast.free_ports import free_port

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
NOT_AUTHORISED = 0x87


def matches(topic_filter, topic):
    """Whether a topic is one of those of a filter with `+`."""
    parts, found = topic_filter.split("/"), topic.split("/")
    return len(parts) == len(found) and all(part in ("+", name) for part, name in zip(parts, found, strict=True))


class Packet:
    """A packet that is being read. `whole` are all of its octets."""

    def __init__(self, kind, flags, body):
        self.kind, self.flags, self._body, self._at = kind, flags, body, 0

    @property
    def whole(self):
        return packet(self.kind, self._body, self.flags)

    def take(self, count):
        piece = self._body[self._at : self._at + count]
        self._at += count
        return piece

    def number(self):
        return int.from_bytes(self.take(2), "big")

    def octets(self):
        return self.take(self.number())

    def text(self):
        return self.octets().decode()

    def properties(self):
        length = shift = 0
        while True:
            (octet,) = self.take(1)
            length |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return self.take(length)

    @property
    def rest(self):
        return self._body[self._at :]


def packet(kind, body, flags=0):
    """The octets of a packet."""
    length, head = len(body), bytearray([kind << 4 | flags])
    while True:
        length, octet = divmod(length, 128)
        head.append(octet | (128 if length else 0))
        if not length:
            return bytes(head) + body


async def read_packet(reader):
    """The next packet of a stream. Raises IncompleteReadError at its end."""
    (head,) = await reader.readexactly(1)
    length = shift = 0
    while True:
        (octet,) = await reader.readexactly(1)
        length |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            return Packet(head >> 4, head & 15, await reader.readexactly(length))


def text(value):
    octets = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(octets)) + octets


class _Session:
    """What a client subscribed to, and what waits for it. `writer` is None while it is away."""

    def __init__(self):
        self.topics = {}  # filter -> retain as published
        self.waiting = []
        self.writer = None
        self.is_5 = True
        self.numbers = 0

    def deliver(self, topic, payload, retained):
        if self.writer is None:
            self.waiting.append((topic, payload, retained))
            return
        self.numbers = self.numbers % 65535 + 1
        body = text(topic) + struct.pack("!H", self.numbers) + (b"\0" if self.is_5 else b"") + payload
        self.writer.write(packet(PUBLISH, body, 2 | retained))


class ToyBroker:
    """A broker at `url`. Tests change its attributes while it runs.

    `published` is everything that clients have published: (user, topic, payload). `lose(topic, payload)` says what it
    loses; `may_publish(user, topic)` what it acknowledges with "not authorised"; `refuse` is the reason code with which
    it refuses connections, 0 for none; `refused_topics` are those to which nobody may subscribe; `has_5` is False for a
    broker of 3.1.1; `says` are the properties of its CONNACK, encoded; `acknowledges` is False for one that
    acknowledges nothing, `answers` for one that has stopped before it lets anybody in.
    """

    authority = None  # it speaks no TLS

    def __init__(self):
        self.published = []
        self.retained = {}
        self.sessions = {}
        self.connects = []  # (client ID, level of the protocol, clean, properties)
        self.properties = b""  # of the last PUBLISH
        self.lose = lambda topic, payload: False
        self.may_publish = lambda user, topic: True
        self.refuse = 0
        self.refused_topics = ()
        self.has_5 = True
        self.says = b""
        self.acknowledges = True
        self.answers = True
        self.port = free_port()
        self._server = None
        self._tasks = set()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def stop(self):
        """End as if killed: no will is published. Sessions and retained messages stay, for `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, topic, payload, *, retain=False):
        """Publish a message, as any client could, and as this broker itself can."""
        if retain:
            self.retained[topic] = payload
        for session in self.sessions.values():
            for topic_filter, as_published in session.topics.items():
                if matches(topic_filter, topic):
                    session.deliver(topic, payload, retain and as_published)

    def send(self, octets):
        """Send octets to every client."""
        for session in self.sessions.values():
            if session.writer is not None:
                session.writer.write(octets)

    # Private

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader, writer):
        connect = await read_packet(reader)
        connect.text()
        level, flags, _ = (*connect.take(2), connect.number())
        is_5 = level == 5
        properties = connect.properties() if is_5 else b""
        name, will = connect.text(), None
        if flags & 4:
            if is_5:
                connect.properties()
            will = (connect.text(), connect.octets())
        user = connect.text() if flags & 128 else ""
        self.connects.append((name, level, bool(flags & 2), properties))
        while not self.answers:
            await asyncio.sleep(1)
        if is_5 and not self.has_5:
            writer.write(packet(CONNACK, b"\0\1"))
            return
        if flags & 2:
            self.sessions.pop(name, None)
        session = self.sessions.setdefault(name, _Session())
        answer = bytes([0, self.refuse]) + (packet(0, self.says)[1:] if is_5 else b"")
        writer.write(packet(CONNACK, answer))
        if self.refuse:
            return
        if session.writer is not None:
            session.writer.write(packet(DISCONNECT, b"\x8e"))
            session.writer.close()
        session.writer, session.is_5 = writer, is_5
        waiting, session.waiting = session.waiting, []
        for message in waiting:
            session.deliver(*message)
        in_order, is_clean = False, bool(flags & 2) and not is_5
        try:
            while not in_order:
                in_order = self._take(session, user, await read_packet(reader))
        except asyncio.CancelledError:
            will = None
            raise
        finally:
            if session.writer is writer:
                session.writer = None
            if is_clean and self.sessions.get(name) is session:
                del self.sessions[name]
            if will is not None and not in_order:
                self.publish(*will, retain=True)

    def _take(self, session, user, got):
        """Take a packet of a client; return whether it was its last one."""
        writer, is_5 = session.writer, session.is_5
        if writer is None:
            return True
        if got.kind == PUBLISH:
            topic, number = got.text(), got.number()
            self.properties = got.properties() if is_5 else b""
            allowed = self.may_publish(user, topic)
            code = b"" if not is_5 or allowed else bytes([NOT_AUTHORISED])
            if self.acknowledges:
                writer.write(packet(PUBACK, struct.pack("!H", number) + code))
            self.published.append((user, topic, got.rest))
            if allowed and not self.lose(topic, got.rest):
                self.publish(topic, got.rest, retain=bool(got.flags & 1))
        elif got.kind == SUBSCRIBE:
            self._subscribe(session, got)
        elif got.kind == UNSUBSCRIBE:
            number = got.number()
            if is_5:
                got.properties()
            codes = b""
            while got.rest:
                session.topics.pop(got.text(), None)
                codes += b"\0"
            writer.write(packet(UNSUBACK, struct.pack("!H", number) + (b"\0" + codes if is_5 else b"")))
        elif got.kind == PINGREQ:
            writer.write(packet(PINGRESP, b""))
        return got.kind == DISCONNECT

    def _subscribe(self, session, got):
        number, codes, begun = got.number(), b"", []
        if session.is_5:
            got.properties()
        while got.rest:
            topic_filter, options = got.text(), got.take(1)[0]
            if topic_filter in self.refused_topics:
                codes += bytes([NOT_AUTHORISED if session.is_5 else 0x80])
                continue
            session.topics[topic_filter] = bool(options & 8)
            codes += b"\1"
            begun.append(topic_filter)
        head = struct.pack("!H", number) + (b"\0" if session.is_5 else b"")
        session.writer.write(packet(SUBACK, head + codes))
        for topic, payload in self.retained.items():
            if any(matches(topic_filter, topic) for topic_filter in begun):
                session.deliver(topic, payload, True)
