"""A CPNS Server that listens, PN GWs and boards, all real, in one process and in virtual time.

They meet on the loopback network as separate machines would. A board is the agent of `device_agent` over a flash in
memory that outlives its power. Each PN GW may be hostile (`end_to_end_attacker`).
"""

import asyncio
import contextlib
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_world import Medium

from cpns import entity_user_key
from cpns import messages as m
from cpns import numbers as n
from device_agent.api import Node
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from device_agent.links.udp import UdpLink
from device_agent.provisioning import RECORD
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection, TreeSection
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.uplinks.mqtt import MqttUplinkSection
from gateway_agent.uplinks.udp import UdpUplinkSection
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.values import MemberState, Moment
from keycast.provisioning.board import Trust, new_board, trust_of
from keycast.virtual_board.board import Network
from keycast.virtual_board.loopback import EVERYBODY, GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port
from message_plane import credentials
from tests.integration.end_to_end_attacker import FROM_BOARD, HostileGateway, Seen
from tests.system.wire import NonceWatch
from tests.virtual_time import BEGINS_AT_S, BoardClock

SERVER_ID = "cpns.example"
SG = "home/alarm"
HOUR = 3600.0
_UNIX = 1_800_000_000


class HouseClock:
    """`gateway_agent.core.ports.Clock` whose Unix time runs with the virtual one."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def unix(self) -> int:
        return int(_UNIX + self.monotonic() - BEGINS_AT_S)

    def moment(self) -> Moment:
        """The same, as the CPNS Server reads it."""
        return Moment(self.monotonic(), self.unix())


class HouseServer:
    """The CPNS Server; `app` while it runs. `drawn` are all Group Keys that it ever drew.

    PN GWs reach it over UDP, or over the broker at `broker_url`.
    """

    def __init__(self, folder: Path, broker_url: str = "", **settings: Any) -> None:
        self.folder = folder
        self.broker_url = broker_url
        config: dict[str, Any] = {"id": SERVER_ID, "batching_s": 0.1, "port": own_port()}
        config |= {"mqtt": {"brokers": [broker_url]}} if broker_url else {"listen": [GATEWAY_ADDRESS]}
        self.config = ServerConfig.model_validate(config | settings)
        self.app: CpnsServer
        self.running = False
        self.drawn: set[bytes] = set()

    @property
    def uplink(self) -> UdpUplinkSection | MqttUplinkSection:
        """What a PN GW has to know."""
        if self.broker_url:
            return MqttUplinkSection(server_id=SERVER_ID, brokers=[self.broker_url])
        return UdpUplinkSection(server_id=SERVER_ID, host=GATEWAY_ADDRESS, port=self.config.port)

    def _random(self, size: int) -> bytes:
        octets = secrets.token_bytes(size)
        self.drawn.add(octets)
        return octets

    async def start(self) -> None:
        self.app = await CpnsServer.open(
            self.folder, self.config, clock=HouseClock().moment, random_octets=self._random
        )
        self.app.start()
        self.running = True

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.app.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def version(self, sg_id: str = SG) -> int:
        return self.app.show_group(sg_id).version

    def member(self, pne_id: str, sg_id: str = SG) -> Any:
        """What the Server shows of a member."""
        return next(member for member in self.app.show_group(sg_id).members if member.pne_id == pne_id)

    def key(self, sg_id: str = SG) -> bytes:
        """The newest Group Key, which only the tests look at."""
        stored = self.app._store.newest_key(sg_id)
        assert stored is not None
        return stored.key


class HouseGateway:
    """A PN GW of the class `kind`; `app` while it runs."""

    def __init__(self, folder: Path, pn_id: str, server: HouseServer, kind: type[GatewayApp]) -> None:
        self.pn_id = pn_id
        self.id = f"gw.{pn_id}"
        self._kind = kind
        self._server = server
        self.port = own_port()
        self._config = GatewayConfig(
            gateway=GatewaySection(id=self.id, pn=pn_id, state_dir=folder),
            message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=self.port, discovery=False),
            broadcast=BroadcastSection(interfaces=["lo"], port=broadcast_port()),
            tree=TreeSection(height=6),
            uplink=server.uplink,
        )
        self.app: Any
        self.running = False

    async def start(self) -> None:
        self.app = await self._kind.open(self._config)
        self.running = True
        self.app.credentials.register(credentials.parse(self._server.app.credential(), "server"))
        await self.app.start()

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.app.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


class HouseBoard:
    """A board; `node` while it has power. `events` are all that its application was told, `accepted` the Group Keys
    that it ever stored, by group and version. `euk` is the Entity User Key that it was provisioned with, b"" for none.
    """

    def __init__(self, name: str, trust: Trust, euk: bytes = b"") -> None:
        self.id = name
        self.pn_id = trust.pn_id
        self.euk = euk
        self.storage: Any = Medium()
        self.flash = self.storage.octets
        self.network = Network.loopback(free_numbers(1))
        self.events: list[tuple[str, dict]] = []
        self.accepted: dict[tuple[str, int], set[bytes]] = {}
        self.node: Node
        self.powered = False
        record, self.credential = new_board(name, trust)
        store = KeyStore(self.storage)
        store.save(RECORD, record)
        if euk:
            store.save(entity_user_keys.RECORD, entity_user_keys.pack(euk))

    async def start(self) -> None:
        network = self.network
        link = UdpLink(network.address, EVERYBODY, port=network.port, broadcast_port=network.broadcast_port)
        try:
            self.node = Node(self.storage, [link], [link], BoardClock(), secrets.token_bytes, self._tell)
        except BaseException:  # of a flash that loses its power
            link.close()
            raise
        await self.node.start()
        await asyncio.sleep(0)  # an agent that is stopped before it has begun closes no links
        self.powered = True

    async def stop(self) -> None:
        """Cut the power between two writes."""
        if self.powered:
            self.powered = False
            await self.node.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def ended(self) -> None:
        """Wait until the agent ends by itself, and raise its error."""
        assert self.node._task is not None
        await asyncio.shield(self.node._task)

    def _tell(self, name: str, values: dict) -> None:
        self.events.append((name, values))
        if name == "key":
            for version, key in self.held(values["group"]).items():
                self.accepted.setdefault((values["group"], version), set()).add(key)

    @property
    def agent(self) -> Any:
        return self.node._agent

    def group(self, sg_id: str = SG) -> Any:
        """The state of a membership, None without one."""
        return self.agent.membership.groups.get(sg_id)

    def version(self, sg_id: str = SG) -> int:
        group = self.group(sg_id)
        return group.version if group else 0

    def held(self, sg_id: str = SG) -> dict[int, bytes]:
        """The Group Keys that it holds, by version."""
        group = self.group(sg_id)
        return group.ring.receiving_keys(self.agent.clock.now() // 1000) if group else {}

    def key(self, sg_id: str = SG) -> bytes | None:
        """The newest of them."""
        return self.held(sg_id).get(self.version(sg_id))

    def euks(self) -> list[bytes]:
        """The Entity User Keys in its flash, the present one first."""
        record = KeyStore(self.storage).load(entity_user_keys.RECORD)
        return [] if record is None else [key for key in entity_user_keys.parse(record) if key]

    def told(self, name: str) -> list[dict]:
        return [values for what, values in self.events if what == name]


class Air(asyncio.DatagramProtocol):
    """Everything that is broadcast."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def datagram_received(self, data: bytes, address: object) -> None:
        self.datagrams.append(data)


async def until(condition: Callable[[], object], timeout_s: float = HOUR) -> None:
    """Return once `condition()` holds. Raises TimeoutError after `timeout_s`, of virtual time.

    After some seconds it looks once a second, which is often enough for what goes by back-offs.
    """
    async with asyncio.timeout(timeout_s):
        looks = 0
        while not condition():
            looks += 1
            await asyncio.sleep(0.02 if looks < 250 else 1)


def broadcast(datagram: bytes) -> None:
    """Send a datagram to everybody on the broadcast plane."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        mouth.sendto(datagram, (EVERYBODY, broadcast_port()))


def nonces_used_twice(carried: Iterable[Seen]) -> list[str]:
    """What the sessions with the Server, of which a PN GW has carried these datagrams, have used twice."""
    watches: defaultdict[str, NonceWatch] = defaultdict(NonceWatch)
    for seen in carried:
        if seen.way == FROM_BOARD and seen.code in (n.TUNNEL_REQUEST, n.TUNNEL_RESPONSE):
            watches[seen.peer].see(seen.fields.get(m.DATAGRAM, b""), not seen.answer)
    return [used for watch in watches.values() for used in watch.reused]


class House:
    """The whole. Everything that was made ends with it."""

    def __init__(self, folder: Path, air: Air, **settings: Any) -> None:
        self._folder = folder
        self.air = air
        self.server = HouseServer(folder / "server", **settings)
        self.gateways: dict[str, HouseGateway] = {}
        self.boards: dict[str, HouseBoard] = {}

    @property
    def hostile(self) -> HostileGateway:
        """The PN GW of the home."""
        return self.gateways["home"].app

    async def gateway(self, pn_id: str = "home", kind: type[GatewayApp] = GatewayApp) -> HouseGateway:
        """Start a PN GW that the Server knows and trusts with the names of its PNEs."""
        gateway = HouseGateway(self._folder / pn_id, pn_id, self.server, kind)
        self.gateways[pn_id] = gateway
        await gateway.start()
        self.server.app.register_gateway(gateway.id, pn_id, gateway.app.identity.credential.ccs, is_open=True)
        return gateway

    async def board(
        self, name: str, gateway: HouseGateway | None = None, *, provisioned: bool = False, admitted: bool = True
    ) -> HouseBoard:
        """Start a board that its PN GW knows.

        It pins the Server's credential, and the Server has its; or, `provisioned`, both have an Entity User Key.
        Without `admitted` the Server was told neither.
        """
        app = (gateway or self.gateways["home"]).app
        pinned = b"" if provisioned else self.server.app.credential()
        board = HouseBoard(name, replace(trust_of(app), server_ccs=pinned), secrets.token_bytes(16 * provisioned))
        app.register(board.credential)
        self.boards[name] = board
        if admitted:
            self.admit(board)
        await board.start()
        return board

    def admit(self, board: HouseBoard) -> None:
        """What an operator does for a board that may be in end-to-end groups."""
        known = {"entity_user_key": board.euk} if board.euk else {"credential": board.credential.ccs}
        self.server.app.admit_pne(board.id, board.pn_id, **known)

    def create(self, sg_id: str = SG, open_to: Iterable[str] = ("home",), **how: Any) -> None:
        """An operator creates an end-to-end group."""
        self.server.app.create_group(sg_id, open_to=open_to, trust="end-to-end", **how)

    async def member(self, name: str, gateway: HouseGateway | None = None, sg_id: str = SG) -> HouseBoard:
        """Start a board, which joins."""
        board = self.boards.get(name) or await self.board(name, gateway)
        await board.node.join(sg_id, HOUR, trust="end-to-end")
        return board

    def holds_newest(self, *names: str, sg_id: str = SG) -> bool:
        """Whether these boards, or all, hold the newest key of the Server, and the Server knows it."""
        if not self.server.running or any(not self.boards[name].powered for name in names or self.boards):
            return False
        boards = [self.boards[name] for name in names or self.boards]
        key = self.server.key(sg_id)
        if any(board.key(sg_id) != key for board in boards):  # what the Server shows costs more to look at
            return False
        view = self.server.app.show_group(sg_id)
        confirmed = {each.pne_id: each.confirmed for each in view.members if each.state == MemberState.MEMBER}
        return not view.update_pending and all(
            board.version(sg_id) == view.version == confirmed.get(board.id) for board in boards
        )

    def check(self) -> None:
        """What holds after anything that any PN GW has done.

        No Group Key and no Entity User Key was in what it saw or is on its disk; boards accepted keys of the Server
        only, and one for a version; no nonce of a session in the tunnel was used twice.
        """
        ids = {group.sg_id for group in self.server.app.list_groups() if group.trust == "end-to-end"}
        secret = {self.server.key(sg_id) for sg_id in ids}
        for board in self.boards.values():
            secret |= {key for (sg_id, _), keys in board.accepted.items() if sg_id in ids for key in keys}
            secret |= set(board.euks())
        for pn_id, gateway in self.gateways.items():
            octets = [path.read_bytes() for path in (self._folder / pn_id).rglob("*") if path.is_file()]
            octets += [seen.octets for seen in getattr(gateway.app, "seen", [])]
            assert not [key for key in secret for each in octets if key in each]
            assert not nonces_used_twice(getattr(gateway.app, "seen", []))
        for board in self.boards.values():
            for (sg_id, _), keys in board.accepted.items():
                assert sg_id not in ids or (len(keys) == 1 and keys <= self.server.drawn)

    # What both ends compute

    def euk_id(self, board: HouseBoard) -> bytes:
        return entity_user_key.key_id(board.euks()[0])

    def opened(self, board: HouseBoard, fields: dict[int, Any]) -> bytes:
        """The Group Key in an SGroupKeyDeliveryRequest, as the board opens it."""
        pne_id, wrapped = fields[m.GROUP_KEY_INFO]
        return entity_user_key.decrypt(board.euks()[0], pne_id, fields[m.SGID], fields[m.VERSION], wrapped)

    def mac(self, board: HouseBoard, sg_id: str = SG) -> bytes:
        """The proof that a board has opened the newest key."""
        return entity_user_key.response_mac(self.server.key(sg_id), board.id, sg_id, self.server.version(sg_id))

    async def close(self) -> None:
        for part in (*self.boards.values(), *self.gateways.values(), self.server):
            await part.stop()


@contextlib.asynccontextmanager
async def open_house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """Yield a House with a running Server that has these settings."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears, pytest.MonkeyPatch.context() as patch:
        ears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ears.bind((EVERYBODY, broadcast_port()))
        patch.setattr("gateway_agent.app.SystemClock", HouseClock)
        # Hours pass in a test, and its network does not change: looking at it would be most of the work
        patch.setattr("gateway_agent.radios.udp_broadcast.LOOK_EVERY_S", HOUR)
        loop = asyncio.get_running_loop()
        transport, air = await loop.create_datagram_endpoint(Air, sock=ears)
        house = House(folder, air, **settings)
        try:
            await house.server.start()
            yield house
        finally:
            await house.close()
            transport.close()


@contextlib.asynccontextmanager
async def open_house_of_two(folder: Path) -> AsyncIterator[House]:
    """Yield a House with two members, who hold a key; its PN GW is hostile, and does its work so far.

    What must hold in every house is checked at the end.
    """
    async with open_house(folder) as house:
        await house.gateway("home", HostileGateway)
        house.create()
        for name in ("lamp", "door"):
            await house.member(name)
        await until(lambda: house.holds_newest())
        yield house
        house.check()
