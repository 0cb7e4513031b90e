"""A wiretap before a real MQTT broker: sees every message on its way there, and repeats or delays what it is told to.

It stands in the broker's place, so nothing that an end sends is missed, not even what a broker that is killed loses.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from tests.integration.toy_broker import CONNECT, PUBLISH, Packet, read_packet
from tests.unit.mosquitto_broker import Mosquitto

HOST = "127.0.0.1"

See = Callable[[str, bytes], None]
Plan = Callable[[str], Sequence[float]]
"""The topic of a message -> the seconds after which a copy of it goes on to the broker, one for each copy."""


def at_once(topic: str) -> Sequence[float]:
    """Hand each message on as it comes."""
    return (0.0,)


class Wiretap:
    """Listens at `url` for clients of a broker. `see` is called with topic and payload of all that they publish."""

    authority = None  # it reads what passes, so there is no TLS

    def __init__(self, broker: Mosquitto, see: See) -> None:
        self.broker = broker
        self.plan: Plan = at_once
        self._see = see
        self._server: asyncio.Server
        self._paths: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    async def open(self) -> "Wiretap":
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Stop to listen, and cut everybody off."""
        self._server.close()
        for path in list(self._paths):
            path.cancel()
        await asyncio.gather(*self._paths, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._paths.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                from_broker, to_broker = await asyncio.open_connection(HOST, self.broker.port)
                try:
                    await self._relay(reader, writer, from_broker, to_broker)
                finally:
                    to_broker.close()
        finally:
            self._paths.discard(task)
            writer.close()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_broker: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
    ) -> None:
        ways = [asyncio.create_task(self._up(reader, to_broker)), asyncio.create_task(_down(from_broker, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, to_broker: asyncio.StreamWriter) -> None:
        is_5, loop = False, asyncio.get_running_loop()
        while True:
            packet = await read_packet(reader)
            if packet.kind == CONNECT:
                is_5 = _level(packet) == 5
            delays: Sequence[float] = (0.0,)
            if packet.kind == PUBLISH:
                topic, payload = _published(packet, is_5)
                self._see(topic, payload)
                delays = self.plan(topic)
            for delay in delays:
                if delay:
                    loop.call_later(delay, _write, to_broker, packet.whole)
                else:
                    to_broker.write(packet.whole)


async def _down(from_broker: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await from_broker.read(65536):
        writer.write(octets)


def _write(writer: asyncio.StreamWriter, octets: bytes) -> None:
    if not writer.is_closing():
        writer.write(octets)


def _level(connect: Packet) -> int:
    connect.text()
    return int(connect.take(1)[0])


def _published(packet: Packet, is_5: bool) -> tuple[str, bytes]:
    topic = packet.text()
    if packet.flags & 0b0110:
        packet.number()
    if is_5:
        packet.properties()
    return topic, packet.rest
