"""MQTT as a link, through a real Mosquitto: datagrams, sessions, presence, several brokers, and what is refused."""

import asyncio
import contextlib

import pytest

from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_topics import SHARDS, place_of, tag_of
from tests.integration.plane_world import Party
from tests.unit.mosquitto_broker import ACCESS, mosquitto
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.real_time

SERVER, HOME = "cpns-server", "home-gw"
RULES = ACCESS.format(server=tag_of(SERVER))
ALL = range(SHARDS)


@pytest.fixture
def broker(tmp_path):
    with mosquitto(tmp_path / "broker", access=RULES) as broker:
        yield broker


def of_gateway(*brokers, name=HOME, **settings):
    urls = [broker.url for broker in brokers]
    return MqttLink(MqttSection(brokers=urls, user=tag_of(name), **settings), name, server_id=SERVER)


def of_server(*brokers, serves=ALL, **settings):
    urls = [broker.url for broker in brokers]
    return MqttLink(MqttSection(brokers=urls, user=tag_of(SERVER), **settings), SERVER, serves=serves)


class End:
    """An open link, what came to it, and its hints."""

    def __init__(self, link):
        self.link = link
        self.received = asyncio.Queue()
        self.hints = []
        link.hints = lambda place, here: self.hints.append((place, here))

    async def take(self):
        return await asyncio.wait_for(self.received.get(), PATIENCE_S)


@contextlib.asynccontextmanager
async def ends(*links):
    """Open `links`; close them in the end."""
    opened = []
    try:
        for link in links:
            end = End(link)
            opened.append(end)
            await link.open(lambda datagram, address, end=end: end.received.put_nowait((datagram, address)))
        yield opened
    finally:
        for link in links:
            await link.close()


async def to_and_fro(gateway, server):
    """A datagram goes up, and the answer to it down."""
    gateway.link.send(await gateway.link.find(place_of(SERVER)), b"question")
    datagram, address = await server.take()
    assert datagram == b"question" and address.place == place_of(HOME)
    server.link.send(address, b"answer")
    datagram, source = await gateway.take()
    assert datagram == b"answer" and source.place == place_of(SERVER)


async def test_datagrams_go_up_and_down_by_the_tag_of_the_gateway(broker):
    async with ends(of_server(broker), of_gateway(broker)) as (server, gateway):
        assert gateway.link.places == [place_of(HOME)] and server.link.places == [place_of(SERVER)]
        await to_and_fro(gateway, server)
    assert gateway.link.places == []


async def test_a_session_goes_over_it(broker, tmp_path):
    gateway, server = Party(tmp_path, HOME, "gateway"), Party(tmp_path, SERVER, "server")
    try:
        await server.start(links=[of_server(broker)])
        await gateway.start(links=[of_gateway(broker)])
        gateway.knows(server)
        server.knows(gateway)
        server.answer = lambda payload: payload[::-1]
        await gateway.endpoint.connect(SERVER, place_of(SERVER))
        assert await gateway.ask(SERVER, b"\xa0up") == b"pu\xa0"
        assert await server.ask(HOME, b"\xa0down") == b"\xa1\xa0down"
    finally:
        await gateway.stop()
        await server.stop()


async def test_presence_is_a_hint_for_both_ends(broker):
    async with ends(of_server(broker), of_gateway(broker)) as (server, gateway):
        await until(lambda: (place_of(HOME), True) in server.hints and (place_of(SERVER), True) in gateway.hints)
        await until(lambda: gateway.link.is_present(place_of(SERVER)) and server.link.is_present(place_of(HOME)))
        await gateway.link.close()
        await until(lambda: server.link.is_present(place_of(HOME)) is False)
        assert server.hints[-1] == (place_of(HOME), False)
        assert server.link.is_present(place_of("a stranger")) is None


async def test_a_broker_that_was_killed_is_connected_to_again_and_another_is_used_meanwhile(broker, tmp_path):
    with mosquitto(tmp_path / "other", access=RULES) as other:
        async with ends(of_server(broker, other), of_gateway(broker, other)) as (server, gateway):
            await to_and_fro(gateway, server)
            assert [state.connected for state in gateway.link.brokers] == [True, False]
            broker.kill()
            await until(lambda: [state.connected for state in gateway.link.brokers] == [False, True])
            assert broker.url in gateway.link.brokers[0].problem
            await to_and_fro(gateway, server)
            broker.start()
            await until(lambda: all(state.connected for state in server.link.brokers))
            assert [state.problem for state in server.link.brokers] == ["", ""]


async def test_with_tls_each_end_proves_its_tag_by_its_certificate(tmp_path):
    with mosquitto(tmp_path / "broker", tls=True, access=RULES) as broker:
        files = {}
        for name in (SERVER, HOME):
            certificate, key = broker.authority.issue(tag_of(name))
            files[name] = {"ca": broker.authority.ca, "certificate": certificate, "key": key}
        section = {name: MqttSection(brokers=[broker.url], **files[name]) for name in files}
        links = (
            MqttLink(section[SERVER], SERVER, serves=ALL),
            MqttLink(section[HOME], HOME, server_id=SERVER),
        )
        async with ends(*links) as (server, gateway):
            await to_and_fro(gateway, server)
