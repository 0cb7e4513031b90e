"""MQTT as a link, through a real Mosquitto: datagrams, sessions, presence, several brokers, and what is refused."""

import asyncio
import contextlib
import datetime

import pytest

from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_topics import SHARDS, place_of, shard_of, tag_of, up
from tests.integration.plane_world import Party
from tests.unit.mosquitto_broker import ACCESS, Authority, mosquitto
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


# What a real broker refuses, in words


async def problem_of(url, **settings):
    """What a PN GW says about the broker at `url` that does not let it in."""
    async with ends(MqttLink(MqttSection(brokers=[url], **settings), HOME, server_id=SERVER)) as (gateway,):
        (state,) = gateway.link.brokers
        assert not state.connected and url in state.problem
        return state.problem


@pytest.fixture
def with_tls(tmp_path):
    with mosquitto(tmp_path / "broker", tls=True) as broker:
        yield broker


def proof(authority, ca, **validity):
    certificate, key = authority.issue(tag_of(HOME), **validity)
    return {"ca": ca, "certificate": certificate, "key": key}


async def test_who_proves_nothing_to_a_broker_with_tls_is_told_to_set_a_certificate(with_tls):
    said = await problem_of(with_tls.url, ca=with_tls.authority.ca)
    assert "wants a client certificate" in said and "certificate and key, or --broker-files" in said


async def test_a_certificate_of_another_ca_and_one_that_has_expired_are_told(with_tls, tmp_path):
    foreign = Authority(tmp_path / "foreign")
    said = await problem_of(with_tls.url, **proof(foreign, with_tls.authority.ca))
    assert "client certificate" in said and "its own CA" in said
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    said = await problem_of(with_tls.url, **proof(with_tls.authority, with_tls.authority.ca, ends=yesterday))
    assert "the client certificate has expired" in said


async def test_a_broker_that_another_ca_has_certified_or_that_has_another_name_is_not_trusted(with_tls, tmp_path):
    foreign = Authority(tmp_path / "foreign")
    said = await problem_of(with_tls.url, **proof(with_tls.authority, foreign.ca))
    assert "cannot prove its name" in said and "Name the file of the CA" in said
    with mosquitto(tmp_path / "other", authority=with_tls.authority, host="127.0.0.2") as other:
        said = await problem_of(other.url, **proof(with_tls.authority, with_tls.authority.ca))
    assert "cannot prove its name" in said and "127.0.0.2" in said


async def test_a_port_with_tls_and_one_without_are_told_apart(with_tls, broker):
    said = await problem_of(f"mqtt://127.0.0.1:{with_tls.port}")
    assert "Write mqtts://" in said
    said = await problem_of(f"mqtts://localhost:{broker.port}", ca=with_tls.authority.ca)
    assert "Write mqtt://" in said


async def test_a_broker_that_wants_a_user_says_so(tmp_path):
    with mosquitto(tmp_path / "closed", more="allow_anonymous false") as closed:
        said = await problem_of(closed.url)
    assert "not authorised" in said and "allow_anonymous true" in said


async def test_a_broker_that_is_not_there_or_has_no_such_name(broker):
    broker.stop()
    assert "nothing listens at this port" in await problem_of(broker.url)
    assert f"listener {broker.port}" in await problem_of(broker.url), "Mosquitto 2 listens for its own machine only"
    assert "has no address" in await problem_of("mqtt://broker.invalid:1883")


async def test_a_line_that_is_missing_in_the_access_list_is_named(broker):
    broker.allow(RULES.replace("pattern write keycast/1/up/+/%u\n", ""))
    async with ends(of_server(broker), of_gateway(broker)) as (server, gateway):
        gateway.link.send(await gateway.link.find(place_of(SERVER)), b"question")
        await until(lambda: gateway.link.counters["mqtt_refused"])
        assert f"topic write keycast/1/up/{shard_of(HOME)}/{tag_of(HOME)}" in gateway.link.brokers[0].problem
        broker.allow(RULES)
        await to_and_fro(gateway, server)


async def test_a_message_of_a_mebibyte_is_not_even_sent_to_an_end_of_mqtt_5(broker):
    async with ends(of_server(broker), of_gateway(broker)) as (server, gateway):
        connection = next(iter(gateway.link._connections.values()))
        connection.publish(up(tag_of(HOME)), bytes(1 << 20))
        connection.publish(up(tag_of(HOME)), bytes(server.link.datagram_max))
        assert len((await server.take())[0]) == server.link.datagram_max
        await to_and_fro(gateway, server)
