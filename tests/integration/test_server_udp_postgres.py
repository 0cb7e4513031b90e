"""A CPNS Server on UDP with its store in PostgreSQL: it works alone, as no datagram finds the right process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import StoreInUse
from keycast.free_ports import free_port
from message_plane.links.mqtt_section import MqttSection
from message_plane.links.mqtt_topics import SHARDS, tag_of
from tests.integration.test_server_udp import CONFIG, UdpPnGw
from tests.unit.cpns_server_parts import succeeded
from tests.unit.server_databases import emptied, postgres_url
from tests.waiting import until

__all__ = ["postgres_url"]

SG = "light"


@pytest.fixture
def url(postgres_url: str) -> str:
    emptied(postgres_url)
    return postgres_url


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[UdpPnGw]:
    home = UdpPnGw(tmp_path, "home")
    yield home
    await home.stop()


@pytest.mark.req("CPNS-GKM-62", "SEC-22", "SEC-23")
async def test_sessions_survive_a_restart_and_the_state_folder_holds_none(
    tmp_path: Path, url: str, home: UdpPnGw
) -> None:
    config = CONFIG.model_copy(update={"port": free_port()})
    server = await CpnsServer.open(tmp_path / "one", config, database_url=url)
    server.start()
    server.register_gateway("gw.home", "pn.home", home.identity.credential.ccs, is_open=True)
    await home.start(server)
    await home.ask_to_create("lamp", SG)
    await until(lambda: home.versions(SG) == [1])
    status = server.status()
    assert (status.database, status.shards, status.processes) == ("PostgreSQL", SHARDS, 1)
    await server.close()
    # another state folder, as on another machine: key, credentials and sessions are in the database
    server = await CpnsServer.open(tmp_path / "another", config, database_url=url)
    server.start()
    server.update_key(SG)
    await until(lambda: home.versions(SG) == [1, 2])
    assert succeeded(await home.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"}))
    assert "handshakes_done" not in server.counters() and server.counters()["requests_echo_challenged"] >= 1
    await server.restore()
    server.confirm_members(SG)
    assert succeeded(await home.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"}))
    assert server.counters()["handshakes_done"] == 1, "an older copy of the store has no sessions"
    await server.close()


@pytest.mark.req("SEC-23")
async def test_a_second_process_does_not_start_beside_one_that_listens_on_udp(tmp_path: Path, url: str) -> None:
    first = await CpnsServer.open(tmp_path / "one", CONFIG, database_url=url)
    with pytest.raises(StoreInUse, match="works alone"):
        await CpnsServer.open(tmp_path / "two", CONFIG, database_url=url)
    # nor does it start beside one that serves gateways over MQTT, which goes on
    await first.close()
    over_mqtt = ServerConfig(id=CONFIG.id, mqtt=MqttSection(brokers=["mqtt://127.0.0.1:1"], user=tag_of(CONFIG.id)))
    first = await CpnsServer.open(tmp_path / "one", over_mqtt, database_url=url)
    with pytest.raises(StoreInUse, match="works alone"):
        await CpnsServer.open(tmp_path / "two", CONFIG, database_url=url)
    await until(lambda: first.status().shards == SHARDS)
    await first.close()
    again = await CpnsServer.open(tmp_path / "two", CONFIG, database_url=url)
    assert again.status().shards == SHARDS
    await again.close()
