"""A PN GW behind a router of the kernel that translates addresses (nftables), its CPNS Server beyond it."""

import asyncio

import pytest

from gateway_agent.uplinks.keep_alive import KeepAlive
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from message_plane import credentials
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.endpoint import Endpoint
from message_plane.links.udp import UdpLink
from tests.integration.test_server_udp import UdpPnGw
from tests.system.routed_home import RoutedHome, missing_router
from tests.waiting import until

SERVER_ID, SG = "cpns.example", "light"
WHY_NOT = missing_router()

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


async def test_a_key_reaches_a_silent_pn_gw_at_once_because_it_keeps_the_way_open(tmp_path):
    with RoutedHome(1) as network:
        with network.inside(None):
            config = ServerConfig(id=SERVER_ID, listen=[network.FAR_ADDRESS], batching_s=0)
            server = await CpnsServer.open(tmp_path / "server", config)
            server.start()
        home = UdpPnGw(tmp_path, "home")
        server.register_gateway("gw.home", "pn.home", home.identity.credential.ccs, is_open=True)
        home.store.register(credentials.parse(server.credential(), "server"))
        with network.inside(1):
            home.endpoint = await Endpoint.open(
                identity=home.identity,
                store=home.store,
                resources={"server": {PATH: uplink_resource(home.take)}},
                links=[UdpLink([("0.0.0.0", 5683)])],
            )
        alive = KeepAlive(home.endpoint, SERVER_ID, network.FORGETS_S / 4)
        try:
            await home.endpoint.connect(SERVER_ID, server.places[0])
            await home.ask_to_create("lamp", SG)
            await until(lambda: home.newest(SG) == 1)

            await asyncio.sleep(3 * network.FORGETS_S)
            server.update_key(SG)
            await until(lambda: server.counters()["requests_sent"] >= 3)
            await asyncio.sleep(0.5)
            assert home.newest(SG) == 1, "the router has not forgotten: this test shows nothing"

            alive.start()
            await until(lambda: home.newest(SG) == 2)  # by a sign of life: the router has given it another port
            await asyncio.sleep(3 * network.FORGETS_S)
            before = server.counters()["requests_sent"]
            server.update_key(SG)
            await until(lambda: home.newest(SG) == 3)
            # once, or once more where a slow machine answered late: it did not wait until the PN GW spoke by itself
            assert server.counters()["requests_sent"] <= before + 2
        finally:
            await alive.close()
            await home.stop()
            await server.close()
