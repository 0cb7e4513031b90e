"""Endpoints over loopback for tests of the message plane, and what stands between and beside them."""

import asyncio
import contextlib
from collections import Counter

from cpns.errors import CpnsError
from message_plane.cpns_resource import GATEWAY_KIND, PATH, cpns_resource
from message_plane.endpoint import Endpoint
from message_plane.identity import OwnIdentity
from message_plane.session_store import SessionStore

LOOPBACK = ("127.0.0.1", 0)


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
        self.resources = {PATH: cpns_resource(self.handle, GATEWAY_KIND if role == "gateway" else "")}
        self.answer = lambda payload: b"\xa1" + payload

    async def start(self, bind=(LOOPBACK,)):
        self.store = SessionStore(self.folder / f"{self.entity_id}.db")
        try:
            self.endpoint = await Endpoint.open(
                identity=self.identity,
                store=self.store,
                resources=self.resources,
                bind=bind,
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
    def address(self):
        return self.endpoint.addresses[0]

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


class Wire(asyncio.DatagramProtocol):
    """A path between a client and a server address on which every datagram can be seen, held, changed or repeated."""

    def __init__(self, server):
        self.server = server
        self.client = None
        self.to_server = []
        self.to_client = []
        self.judge = lambda data, towards_server: data

    @classmethod
    async def open(cls, server):
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_datagram_endpoint(lambda: cls(server), local_addr=LOOPBACK)
        return wire

    @property
    def address(self):
        return self.transport.get_extra_info("sockname")

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        towards_server = address != self.server
        if towards_server:
            self.client = address
        data = self.judge(data, towards_server)
        if data is None:
            return
        (self.to_server if towards_server else self.to_client).append(data)
        self.transport.sendto(data, self.server if towards_server else self.client)

    def repeat_to_server(self, data):
        self.transport.sendto(data, self.server)

    def close(self):
        self.transport.close()


class Foreigner(asyncio.DatagramProtocol):
    """A stranger with a plain UDP socket."""

    def __init__(self):
        self.received = asyncio.Queue()

    @classmethod
    async def open(cls, host="127.0.0.1"):
        loop = asyncio.get_running_loop()
        _, stranger = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        return stranger

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.received.put_nowait(data)

    def send(self, data, address):
        self.transport.sendto(data, address)

    async def ask(self, data, address, timeout_s=1.0):
        """Send and return the next datagram that comes, or None."""
        self.send(data, address)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.received.get(), timeout_s)

    def close(self):
        self.transport.close()


def renumbered(datagram, message_id=0xBEEF):
    """The same CoAP message under another message ID: not a retransmission but a replay."""
    return datagram[:2] + message_id.to_bytes(2, "big") + datagram[4:]
