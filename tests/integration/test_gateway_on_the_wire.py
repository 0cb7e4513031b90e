"""The messages of a PN GW to its Server and its PNEs: their order, and that no key can be read in them."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from cpns import broadcast_object, messages, numbers
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import (
    GatewayConfig,
    GatewaySection,
    MessagePlaneSection,
)
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.uplinks.udp import UdpUplinkSection
from keycast.free_ports import free_port
from message_plane import credentials
from message_plane.cpns_resource import PATH
from tests.integration.plane_world import LOOPBACK, Party, Wire
from tests.unit.gateway_world import Server
from tests.waiting import until

PN, SG = "home", "family/lights"
BROADCAST = "127.255.255.255"


class Lamp(Party):
    """A PNE that takes every key it is given."""

    def __init__(self, folder, pne_id):
        super().__init__(folder, pne_id, "pne")
        self.keys = {}
        self.answer = self.take

    def take(self, octets):
        code, fields = messages.decode(octets)
        assert code == numbers.GROUP_KEY_DELIVERY_REQUEST
        ((key, index),) = fields[messages.GROUP_KEY]
        assert index is None
        self.keys[fields[messages.VERSION]] = key
        answer = {messages.RESULT: "1", messages.SG_ID: fields[messages.SG_ID]}
        return messages.encode(code + 1, {**answer, messages.VERSION: fields[messages.VERSION]})

    async def ask(self, code, fields=()):
        """A request of this PNE that must succeed."""
        message = messages.encode(code, {messages.PNE_ID: self.entity_id, **dict(fields)})
        answer = messages.decode(await self.endpoint.request("gw.home", message, resource=PATH))[1]
        assert answer[messages.RESULT] == numbers.RESULT_SUCCESS


class Air(asyncio.DatagramProtocol):
    """Hears what is broadcast; `heard(datagram)` is told."""

    def __init__(self, heard):
        self._heard = heard

    def datagram_received(self, data, address):
        self._heard(data)


@contextlib.asynccontextmanager
async def home(folder, method, lamps=3):
    """A PN GW between a CPNS Server and lamps, a wire on each way."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        server = await Party(folder, "cpns-server", "server").start()
        stack.push_async_callback(server.stop)
        uplink = await Wire.open(server.place)
        stack.push_async_callback(uplink.close)
        config = GatewayConfig(
            gateway=GatewaySection(id="gw.home", pn=PN, state_dir=folder / "state"),
            message_plane=MessagePlaneSection.model_construct(listen=[LOOPBACK[0]], port=0, discovery=False),
            broadcast=BroadcastSection(interfaces=["lo"], port=port),
            delivery=DeliveryPolicy(method=method),
            uplink=UdpUplinkSection(server_id="cpns-server", host=uplink.address[0], port=uplink.address[1]),
        )
        app = await GatewayApp.open(config)
        stack.push_async_callback(app.close)
        app.credentials.register(credentials.parse(server.credential.ccs, "server"))
        server.store.register(app.identity.credential)
        script = Server()
        server.answer = lambda message: script.answer(PN, message)
        await app.start()
        wires, members = [], []
        for number in range(lamps):
            lamp = await Lamp(folder, f"lamp.{number}").start()
            stack.push_async_callback(lamp.stop)
            lamp.store.register(app.identity.credential)
            app.register(lamp.credential)
            wire = await Wire.open(app.endpoint.places[0])
            stack.push_async_callback(wire.close)
            await lamp.endpoint.connect("gw.home", wire.place)
            if method == "broadcast":
                await lamp.ask(numbers.GKDK_ASSIGNMENT_REQUEST)
            await lamp.ask(numbers.JOIN_REQUEST, {messages.SG_ID: SG})
            wires.append(wire)
            members.append(lamp)
        yield SimpleNamespace(
            app=app, server=server, script=script, uplink=uplink, wires=wires, lamps=members, port=port
        )


async def send_key(home, version, key):
    """The Server's request with a new Group Key, and the PN GW's answer."""
    request = {
        messages.SG_ID: SG,
        messages.GROUP_KEY: [(key, None)],
        messages.VERSION: version,
        messages.ACTIVATION: 0,
        messages.REASON: numbers.REASON_LEAVE,
        messages.REVISION: home.script.group(SG).revision[PN],
    }
    message = messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, request)
    return messages.decode(await home.server.endpoint.request("gw.home", message, resource=PATH))


@pytest.mark.req("CPNS-GKM-14", "CPNS-GKM-33", "CPNS-GKM-50", "Q-06")
async def test_a_unicast_key_is_encrypted_for_each_member_on_its_own(tmp_path):
    key = bytes(range(200, 216))
    async with home(tmp_path, "unicast") as here:
        code, answer = await send_key(here, 65537, key)
        assert (code, answer[messages.RESULT]) == (numbers.GROUP_KEY_DELIVERY_RESPONSE, "1")
        await until(lambda: all(lamp.keys == {65537: key} for lamp in here.lamps))
        on_the_way = [wire.to_client[-1] for wire in here.wires]
        everything = [data for wire in (here.uplink, *here.wires) for data in wire.to_client + wire.to_server]
        assert len(everything) > 20
        for word in (key, SG.encode()):
            assert not any(word in data for data in everything)
        assert len(set(on_the_way)) == 3  # no two members get the same octets


@pytest.mark.req("CPNS-GKM-10", "CPNS-GKM-29", "CPNS-GKM-30")
async def test_the_response_is_on_its_way_to_the_server_before_anything_is_broadcast(tmp_path):
    happened = []
    async with home(tmp_path, "broadcast") as here:
        loop = asyncio.get_running_loop()

        def heard(datagram):
            if isinstance(broadcast_object.parse(datagram), broadcast_object.Received):
                happened.append("broadcast")

        transport, _ = await loop.create_datagram_endpoint(lambda: Air(heard), local_addr=(BROADCAST, here.port))

        def seen(data, towards_server):
            if towards_server:
                happened.append("response")
            return data

        try:
            here.uplink.judge = seen
            await send_key(here, 65537, bytes(16))
            await until(lambda: "broadcast" in happened)
        finally:
            transport.close()
        assert happened.index("response") < happened.index("broadcast")
