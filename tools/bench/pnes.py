"""Many PNEs in one process: each is the whole portable agent of a board, on CPython, with three own UDP sockets.

Unlike boards they keep records in memory instead of flash, all share one processor and one event loop, and a
broadcast datagram is lost for one PNE with a given probability, drawn for each PNE by itself. Unicast is not lost: on
Wi-Fi the link layer acknowledges and repeats it, broadcasts it does not (RFC 9119, 3.1).
"""

import asyncio
import gc
import random
import resource
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from cpns import cborlite, numbers
from device_agent import provisioning, session
from device_agent.api import Node
from device_agent.clock import Clock
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from device_agent.links.udp import UdpLink
from tools.bench.home import END_TO_END_SG_ID, EVERYBODY, SG_ID, PneKeys

JOINS_AT_ONCE = 32
FILES_EACH = 3  # for CoAP, for broadcasts, and for group messages that it sends
_FILES_ELSE = 64


@dataclass(frozen=True)
class Air:
    """The network of the PNEs: ports, and the probability that a PNE misses a broadcast datagram."""

    port: int
    broadcast_port: int
    loss: float
    seed: int


@dataclass
class Heard:
    """The PNEs' report on one version: moments of the machine's monotonic clock at which they had stored it."""

    version: int
    stored_at: list[float] = field(default_factory=list)
    datagrams: int = 0
    lost: int = 0
    unicasts_sent: int = 0  # by PNEs since their start; datagrams of the message plane
    unicasts_received: int = 0


class MemoryStorage:
    """A `ports.Storage` in memory, with the values in `octets`, by name."""

    def __init__(self) -> None:
        self.octets: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.octets.get(name)

    def set(self, name: str, octets: bytes) -> None:
        self.octets[name] = bytes(octets)

    def delete(self, name: str) -> None:
        self.octets.pop(name, None)

    def commit(self) -> None:
        """Do nothing, as each write is done already."""


class _LossyLink(UdpLink):
    """UDP on a loopback address of its own, which loses some broadcasts."""

    def __init__(self, number: int, air: Air) -> None:
        address = f"127.1.{number // 250}.{1 + number % 250}"
        super().__init__(address, EVERYBODY, port=air.port, broadcast_port=air.broadcast_port)  # type: ignore[no-untyped-call]
        self._loss = air.loss
        self._random = random.Random(air.seed * 100_003 + number)
        self.heard = self.lost = self.unicasts_sent = self.unicasts_received = 0

    def send(self, address: Any, datagram: bytes) -> None:
        self.unicasts_sent += 1
        super().send(address, datagram)  # type: ignore[no-untyped-call]

    async def recv(self) -> Any:
        received = await super().recv()  # type: ignore[no-untyped-call]
        self.unicasts_received += 1
        return received

    async def hear(self, home: Any) -> Any:
        while True:
            received = await super().hear(home)  # type: ignore[no-untyped-call]
            self.heard += 1
            if self._random.random() >= self._loss:
                return received
            self.lost += 1


class _Population:
    """All PNEs of this process."""

    def __init__(self, keys: list[PneKeys], first: int, air: Air) -> None:
        self.links = [_LossyLink(number, air) for number in range(first, first + len(keys))]
        self.nodes = [self._node(*pair) for pair in zip(keys, self.links, strict=True)]
        self.heard: dict[int, Heard] = {}
        self._end_to_end = any(each.euk for each in keys)

    def _node(self, keys: PneKeys, link: _LossyLink) -> Any:
        memory = MemoryStorage()
        store = KeyStore(memory)
        store.save(provisioning.RECORD, keys.provisioning)
        context = [keys.secret, keys.salt, keys.sender_id, keys.recipient_id, 0]
        store.save(session.RECORD, cborlite.encode(context))
        if keys.euk:
            store.save(entity_user_keys.RECORD, entity_user_keys.pack(keys.euk))
        return Node(memory, [link], [link], Clock(), on_event=self._take)

    def _take(self, name: str, values: dict[str, Any]) -> None:
        if name == "key":
            heard = self.heard.setdefault(values["version"], Heard(values["version"]))
            heard.stored_at.append(time.monotonic())

    async def join(self) -> None:
        """Start all agents and let them join, a few at a time. Their keys come when the Server makes them."""
        gate = asyncio.Semaphore(JOINS_AT_ONCE)

        async def join(node: Any) -> None:
            async with gate:
                await node.start()
                agent = node._agent
                await agent.perform(lambda: agent.membership.enter(SG_ID))
                if self._end_to_end:
                    trust = numbers.TRUST_END_TO_END
                    await agent.perform(lambda: agent.membership.enter(END_TO_END_SG_ID, trust=trust))

        await asyncio.gather(*(join(node) for node in self.nodes))

    def report(self, version: int) -> Heard:
        """Return what the PNEs heard of `version`, with the broadcast datagrams since the last report."""
        heard = self.heard.get(version, Heard(version))
        heard.datagrams = sum(link.heard for link in self.links)
        heard.lost = sum(link.lost for link in self.links)
        heard.unicasts_sent = sum(link.unicasts_sent for link in self.links)
        heard.unicasts_received = sum(link.unicasts_received for link in self.links)
        for link in self.links:
            link.heard = link.lost = 0
        return heard

    async def stop(self) -> None:
        """Stop all agents."""
        await asyncio.gather(*(node.stop() for node in self.nodes))


def fits(count: int) -> bool:
    """Return True if this machine lets one process have the sockets of `count` PNEs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or most >= FILES_EACH * count + _FILES_ELSE


def live(link: Connection, keys: list[PneKeys], first: int, air: Air) -> None:
    """Run the process: start the PNEs, numbered from `first`, let them join, then report on each version asked for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_EACH * len(keys) + _FILES_ELSE, most))
    asyncio.run(_live(link, keys, first, air))


async def _live(link: Connection, keys: list[PneKeys], first: int, air: Air) -> None:
    population = _Population(keys, first, air)
    await population.join()
    gc.freeze()  # a thousand agents are no garbage, and a collection that visits them all stops all PNEs for a moment
    link.send("members")
    loop = asyncio.get_running_loop()
    while isinstance(version := await loop.run_in_executor(None, link.recv), int):
        link.send(population.report(version))
    await population.stop()
