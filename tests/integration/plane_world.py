"""Endpoints for tests of the message plane, and the parts between and beside them.

All of them meet on links of the kind that the fixture `each_link` chooses: a test that uses it runs once on each kind.
A test about sockets is marked `only_on("udp")`.
"""

import asyncio
import contextlib
from collections import Counter

import pytest

from cpns.errors import CpnsError
from keycast.free_ports import free_port
from message_plane.cpns_resource import GATEWAY_KIND, PATH, board_resource, uplink_resource
from message_plane.endpoint import Endpoint
from message_plane.identity import OwnIdentity
from message_plane.links.memory import Ether, MemoryLink
from message_plane.links.udp import UdpLink
from message_plane.session_file import SessionFile
from tests.integration.scripted_carrier import Room, RoomLink

LOOPBACK = ("127.0.0.1", 0)


def over_memory():
    """How to make links that meet in an ether of their own."""
    ether = Ether()
    return lambda bind: MemoryLink(ether, [f"{host}:{number}" for host, number in bind])


def over_gatt():
    """How to make links whose radios are in one room."""
    room = Room()
    return lambda bind: RoomLink(room, room.address(*bind[0]), connections_max=16)


def over_udp():
    """How to make links on ports that they find again when they are closed and opened: 0 is for one of those."""
    return lambda bind: UdpLink([(host, number or free_port()) for host, number in bind])


KINDS = {"udp": over_udp, "memory": over_memory, "gatt": over_gatt}


class Links:
    """`on(bind)` makes a link that listens on each (host, number) of `bind`."""

    on = staticmethod(over_udp())


def address_of(place):
    """Host and number of a place."""
    host, _, number = place.partition(":")[2].rpartition(":")
    return host, int(number)


def only_on(*kinds):
    """Marks a test that `each_link` runs on some kinds of links only."""
    return pytest.mark.parametrize("each_link", kinds, indirect=True)


UNCONNECTED = only_on("udp", "memory")
"""Marks a test of what a link with connections cannot do: any number of strangers or of datagrams at the same moment,
several own addresses, datagrams of any length."""


class Party:
    """One entity: its keys and its store on disk, its endpoint when it runs, what its handler got."""

    def __init__(self, folder, entity_id, role):
        self.folder = folder
        self.entity_id = entity_id
        self.role = role
        self.identity = OwnIdentity.create(folder / f"{entity_id}.key", entity_id, role)
        self.store = None
        self.endpoint = None
        self.counters = Counter()
        self.got = []
        boards = {PATH: board_resource(self.handle, GATEWAY_KIND if role == "gateway" else "")}
        self.resources = {
            "pne": boards,
            "gateway": {PATH: uplink_resource(self.handle)},
            "server": {PATH: uplink_resource(self.handle)},
        }
        self.answer = lambda payload: b"\xa1" + payload

    async def start(self, bind=(LOOPBACK,), links=None):
        self.store = SessionFile(self.folder / f"{self.entity_id}.db")
        try:
            self.endpoint = await Endpoint.open(
                identity=self.identity,
                store=self.store,
                resources=self.resources,
                links=links or [Links.on(bind)],
                counters=self.counters,
            )
        except BaseException:
            self.store.close()
            raise
        return self

    async def stop(self):
        if self.endpoint is not None:
            await self.endpoint.close()
            self.store.close()
            self.endpoint = None

    async def restart(self):
        """The same place, the same disk, nothing else."""
        address = self.address
        await self.stop()
        await self.start([address])

    @property
    def place(self):
        return self.endpoint.places[0]

    @property
    def address(self):
        return address_of(self.place)

    @property
    def credential(self):
        return self.identity.credential

    def knows(self, *others):
        for other in others:
            self.store.register(other.credential)

    async def ask(self, entity_id, message, **options):
        """One CPNS message to `entity_id`, and what it answers."""
        return await self.endpoint.request(entity_id, message, resource=PATH, **options)

    async def handle(self, peer, payload):
        self.got.append((peer, payload))
        answer = self.answer(payload)
        if isinstance(answer, CpnsError):
            raise answer
        return await answer if asyncio.iscoroutine(answer) else answer


@contextlib.asynccontextmanager
async def parties(folder, *names_and_roles):
    """Started parties that know each other."""
    all_of_them = [Party(folder, entity_id, role) for entity_id, role in names_and_roles]
    try:
        for party in all_of_them:
            await party.start()
        for party in all_of_them:
            party.knows(*(other for other in all_of_them if other is not party))
        yield all_of_them
    finally:
        for party in all_of_them:
            await party.stop()


class Wire:
    """A path between a client and a place on which every datagram can be seen, held, changed or repeated."""

    def __init__(self, link):
        self.link = link
        self.server = None
        self.client = None
        self.to_server = []
        self.to_client = []
        self.judge = lambda data, towards_server: data

    @classmethod
    async def open(cls, server):
        wire = cls(Links.on([LOOPBACK]))
        await wire.link.open(wire._receive)
        wire.server = await wire.link.find(server)
        return wire

    @property
    def place(self):
        return self.link.places[0]

    @property
    def address(self):
        return address_of(self.place)

    def _receive(self, data, address):
        towards_server = address.place != self.server.place
        if towards_server:
            self.client = address
        data = self.judge(data, towards_server)
        if data is None:
            return
        (self.to_server if towards_server else self.to_client).append(data)
        self.link.send(self.server if towards_server else self.client, data)

    def repeat_to_server(self, data):
        self.link.send(self.server, data)

    def say_to_client(self, data):
        self.link.send(self.client, data)

    async def close(self):
        await self.link.close()


class Foreigner:
    """A stranger with a link of its own and nothing else. `received` holds (datagram, place of its sender)."""

    def __init__(self, link):
        self.link = link
        self.received = asyncio.Queue()

    @classmethod
    async def open(cls, host="127.0.0.1"):
        stranger = cls(Links.on([(host, 0)]))
        await stranger.link.open(lambda data, address: stranger.received.put_nowait((data, address.place)))
        return stranger

    async def send(self, data, place):
        self.link.send(await self.link.find(place), data)

    async def ask(self, data, place, timeout_s=1.0):
        """Send and return the next datagram that comes, or None."""
        await self.send(data, place)
        with contextlib.suppress(TimeoutError):
            return (await asyncio.wait_for(self.received.get(), timeout_s))[0]

    async def close(self):
        await self.link.close()


def renumbered(datagram, message_id=0xBEEF):
    """The same CoAP message under another message ID: not a retransmission but a replay."""
    return datagram[:2] + message_id.to_bytes(2, "big") + datagram[4:]
