"""The simulated PN GWs of `pn_gateways` over MQTT: each has a connection of its own to the broker, and keeps it.

A connection that is lost is made again with the pauses of the product's link (`tuning.MQTT_AGAIN_S`).
"""

import asyncio
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from message_plane import tuning
from message_plane.credentials import Credential
from message_plane.links import mqtt_files
from message_plane.links.mqtt_section import Broker, BrokerFiles
from message_plane.links.mqtt_topics import tag_of
from tools.bench.fleet import SERVER_ID, GatewayKeys
from tools.bench.mqtt_client import BareClient
from tools.bench.pn_gateways import Expect, PnGateways
from tools.bench.udp_gateways import allow

CA, CERTIFICATE, KEY = "ca.crt", "client.crt", "client.key"
_AT_ONCE = 100  # connections that are made at once, at the beginning
_TLS_S = 60.0


@dataclass(frozen=True)
class AllBack:
    """A request to the process, to report the moment (monotonic seconds) at which all of them are connected again."""


@dataclass(frozen=True)
class ShakeHands:
    """A request to the process, that all of them begin a handshake with the Server; it reports a `Shaken`."""

    server: Credential


@dataclass(frozen=True)
class Shaken:
    """When the first handshake began and the last one ended, in monotonic seconds."""

    begun: float
    ended: float


class _Process:
    def __init__(
        self, link: Connection, gateways: PnGateways, tags: Sequence[str], contexts: Sequence[ssl.SSLContext | None]
    ) -> None:
        self._link = link
        self._gateways = gateways
        self._tags = tags
        self._contexts = contexts
        self._clients: list[BareClient | None] = [None] * len(tags)
        self._there = 0
        self._all_there = asyncio.Event()
        self._there_at = 0.0
        self._begun: float | None = None
        self._wants_back = False
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.end = asyncio.Event()

    async def run(self, broker: Broker) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(broker, number)) for number in range(len(self._tags))]
            await self._all_there.wait()
            asyncio.get_running_loop().add_reader(self._link.fileno(), self._told)
            self._link.send("there")
            await self.end.wait()
            for task in tasks:
                task.cancel()

    async def _keep(self, broker: Broker, number: int) -> None:
        """Keep the connection of one PN GW, as `message_plane.links.mqtt_brokers` does."""
        least, most = tuning.MQTT_AGAIN_S
        pause = least
        async with self._places:  # the first ones
            client = await self._connected(broker, number)
        while True:
            if client is not None:
                pause = least
                await self._use(number, client)
            await asyncio.sleep(random.uniform(0, pause))
            if client is None:
                pause = min(2 * pause, most)
            client = await self._connected(broker, number)

    async def _connected(self, broker: Broker, number: int) -> BareClient | None:
        context = self._contexts[number]
        client = BareClient(self._tags[number], tag_of(SERVER_ID), lambda datagram: self._take(number, datagram))
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: client, broker.host, broker.port, ssl=context, ssl_handshake_timeout=_TLS_S if context else None
            )
        except OSError:
            return None
        await asyncio.wait([client.ready, client.lost], return_when=asyncio.FIRST_COMPLETED)
        return None if client.lost.done() else client

    async def _use(self, number: int, client: BareClient) -> None:
        self._clients[number] = client
        self._there += 1
        if self._there == len(self._tags):
            self._there_at = time.monotonic()
            self._all_there.set()
            self._report()
        await client.lost
        self._clients[number] = None
        self._there -= 1
        self._all_there.clear()

    def _take(self, number: int, datagram: bytes) -> bytes | None:
        answer = self._gateways.take(number, datagram)
        self._report()
        return answer

    def _told(self) -> None:
        said = self._link.recv()
        if isinstance(said, Expect):
            self._gateways.expect(said)
        elif isinstance(said, AllBack):
            self._wants_back = True
        elif isinstance(said, ShakeHands):
            first = self._gateways.shake_hands(said.server)
            self._begun = time.monotonic()
            for client, datagram in zip(self._clients, first, strict=True):
                assert client is not None, "a PN GW has lost its connection"
                client.send(datagram)
        else:
            self.end.set()
        self._report()

    def _report(self) -> None:
        if (reached := self._gateways.reached()) is not None:
            self._link.send(reached)
        if self._wants_back and self._all_there.is_set():
            self._wants_back = False
            self._link.send(self._there_at)
        if self._begun is not None and self._gateways.have_shaken:
            self._link.send(Shaken(self._begun, self._gateways.shaken_at))
            self._begun = None


def serve(link: Connection, keys: list[GatewayKeys], broker: Broker, folders: list[Path] | None) -> None:
    """Run the process: connect all these PN GWs, answer as they do, and report for each request once.

    `folders` have the files of each for TLS; None: the broker has none.
    """
    allow(len(keys))
    contexts: list[ssl.SSLContext | None] = [None] * len(keys)
    if folders is not None:
        contexts = [mqtt_files.tls_context(BrokerFiles(at / CA, at / CERTIFICATE, at / KEY)) for at in folders]
    asyncio.run(_run(link, keys, broker, contexts))


async def _run(
    link: Connection, keys: list[GatewayKeys], broker: Broker, contexts: Sequence[ssl.SSLContext | None]
) -> None:
    await _Process(link, PnGateways(keys), [tag_of(each.gateway_id) for each in keys], contexts).run(broker)
