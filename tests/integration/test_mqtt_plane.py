"""Sessions between PN GWs and a CPNS Server over MQTT: whole bodies, what a broker repeats, and who is at which topic.

The broker is one inside the process, which loses, doubles and delays what a test tells it to.
"""

import asyncio
import random

import aiocoap
import pytest

from cpns import tuning as cpns_tuning
from message_plane import tuning
from message_plane.errors import HandshakeFailed, PeerUnreachable
from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_topics import SHARDS, down, place_of, tag_of, up
from tests.integration.plane_world import Party, renumbered
from tests.integration.toy_broker import ToyBroker
from tests.waiting import PATIENCE_S, until

SERVER, HOME, NEIGHBOUR = "cpns-server", "home-gw", "neighbour-gw"


class House:
    """A Server and two PN GWs at one broker. Each knows who it talks to."""

    def __init__(self, folder, broker):
        self.broker = broker
        self.server = Party(folder, SERVER, "server")
        self.home = Party(folder, HOME, "gateway")
        self.neighbour = Party(folder, NEIGHBOUR, "gateway")

    def link(self, party, calls_itself=""):
        section = MqttSection(brokers=[self.broker.url], user=tag_of(party.entity_id))
        name = calls_itself or party.entity_id
        if party is self.server:
            return MqttLink(section, name, serves=range(SHARDS), counters=party.counters)
        return MqttLink(section, name, server_id=SERVER, counters=party.counters)

    async def start(self, *parties):
        for party in parties:
            await party.start(links=[self.link(party)])
            if party is self.server:
                party.knows(self.home, self.neighbour)
            else:
                party.knows(self.server)

    async def stop(self):
        for party in (self.home, self.neighbour, self.server):
            await party.stop()

    def datagrams(self, topic):
        """What was published at a topic."""
        return [payload for _, where, payload in self.broker.published if where == topic]


@pytest.fixture
async def house(tmp_path):
    broker = await ToyBroker().start()
    house = House(tmp_path, broker)
    yield house
    await house.stop()
    await broker.stop()


@pytest.fixture
async def session(house):
    """A house with a session between the home and the Server."""
    await house.start(house.server, house.home)
    await house.home.endpoint.connect(SERVER, place_of(SERVER))
    assert await house.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
    return house


async def test_requests_go_both_ways_and_none_is_confirmable(session):
    assert await session.server.ask(HOME, b"\xa0down") == b"\xa1\xa0down"
    messages = [aiocoap.Message.decode(octets) for _, topic, octets in session.broker.published if "/st/" not in topic]
    assert {int(message.mtype) for message in messages} == {1}, "NON"
    assert session.server.endpoint.last_heard(HOME).place == place_of(HOME)


async def test_a_body_that_a_message_can_hold_goes_whole_and_a_longer_one_in_blocks(session):
    session.server.answer = lambda payload: payload[::-1]
    body = b"\xa0" + random.Random(1).randbytes(60_000)
    before = len(session.datagrams(up(tag_of(HOME))))
    assert await session.home.ask(SERVER, body) == body[::-1]
    assert len(session.datagrams(up(tag_of(HOME)))) == before + 1
    assert len(session.datagrams(down(tag_of(HOME)))[-1]) > 60_000
    longest = b"\xa0" + bytes(cpns_tuning.UPLINK_MESSAGE_MAX - 1)
    assert MqttLink.body_max < len(longest)
    assert await session.home.ask(SERVER, longest) == longest[::-1]
    assert len(session.datagrams(up(tag_of(HOME)))) > before + 64


async def test_a_session_survives_the_restart_of_either_end_and_of_the_broker(session):
    await session.server.stop()
    await session.start(session.server)
    assert await session.server.ask(HOME, b"\xa0down") == b"\xa1\xa0down"  # its place is in the store
    await session.home.stop()
    await session.start(session.home)
    await session.home.endpoint.connect(SERVER, place_of(SERVER))
    assert await session.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
    await session.broker.stop()
    session.broker.sessions.clear()
    session.broker.retained.clear()
    await session.broker.start()
    await asyncio.sleep(100)
    assert await session.server.ask(HOME, b"\xa0down") == b"\xa1\xa0down"
    assert session.home.counters["handshakes_done"] == 1


@pytest.mark.req("SEC-27")
async def test_what_a_broker_delivers_twice_is_taken_once_and_a_copy_gets_no_answer(session):
    topic = up(tag_of(HOME))
    for copy in (session.datagrams(topic)[-1], renumbered(session.datagrams(topic)[-1])):
        answers = len(session.datagrams(down(tag_of(HOME))))
        session.broker.publish(topic, copy)
        await asyncio.sleep(100)
        assert len(session.datagrams(down(tag_of(HOME)))) == answers
    assert session.server.counters["requests_repeated"] == session.server.counters["requests_replayed"] == 1
    assert len(session.server.got) == 1


@pytest.mark.req("SEC-27")
async def test_what_a_broker_holds_back_for_an_hour_is_not_taken_after_it_was_sent_again(session):
    topic, held = up(tag_of(HOME)), []
    session.broker.lose = lambda where, payload: where == topic and not held and not held.append(payload)
    with pytest.raises(PeerUnreachable):
        await session.home.ask(SERVER, b"\xa0held", timeout_s=PATIENCE_S)
    for number in range(tuning.REPLAY_WINDOW):
        assert await session.home.ask(SERVER, b"\xa0%d" % number) == b"\xa1\xa0%d" % number
    await asyncio.sleep(3600)
    session.broker.publish(topic, held[0])
    await until(lambda: session.server.counters["requests_replayed"] == 1)
    assert b"\xa0held" not in [payload for _, payload in session.server.got]


async def test_requests_that_overtake_each_other_are_all_taken(session):
    topic, held = up(tag_of(HOME)), []
    session.broker.lose = lambda where, payload: where == topic and not held.append(payload)
    asked = [asyncio.create_task(session.home.ask(SERVER, b"\xa0%d" % number)) for number in range(8)]
    await until(lambda: len(held) == 8)
    session.broker.lose = lambda where, payload: False
    for datagram in reversed(held):
        session.broker.publish(topic, datagram)
    assert await asyncio.gather(*asked) == [b"\xa1\xa0%d" % number for number in range(8)]


async def test_a_request_ends_with_its_endpoint_and_takes_the_answer_of_nobody_else(session):
    await session.start(session.neighbour)
    held = []
    session.broker.lose = lambda where, payload: where == down(tag_of(HOME)) and not held.append(payload)
    asked = asyncio.create_task(session.server.ask(HOME, b"\xa0down"))
    await until(lambda: held)
    token = aiocoap.Message.decode(held[0]).token
    answer = aiocoap.Message(code=aiocoap.CHANGED, _mtype=1, _mid=7, _token=token, payload=b"forged")
    session.broker.publish(up(tag_of(NEIGHBOUR)), answer.encode())
    await asyncio.sleep(1)
    assert not asked.done()
    session.broker.publish(up(tag_of(HOME)), answer.encode())
    with pytest.raises(PeerUnreachable, match="without protection"):
        await asked
    asked = asyncio.create_task(session.server.ask(HOME, b"\xa0down"))
    await until(lambda: len(held) == 2)
    await session.server.stop()
    with pytest.raises(PeerUnreachable, match="closed"):
        await asked


# Whose topic it is


async def test_a_message_of_one_gateway_on_the_topic_of_another_is_refused_and_changes_nothing(session):
    await session.start(session.neighbour)
    held = []
    session.broker.lose = lambda where, payload: where == up(tag_of(HOME)) and not held.append(payload)
    with pytest.raises(PeerUnreachable):
        await session.home.ask(SERVER, b"\xa0new", timeout_s=5)
    session.broker.lose = lambda where, payload: False
    heard = session.server.endpoint.last_heard(HOME)
    session.broker.publish(up(tag_of(NEIGHBOUR)), held[0])
    await until(lambda: session.datagrams(down(tag_of(NEIGHBOUR))))
    answer = aiocoap.Message.decode(session.datagrams(down(tag_of(NEIGHBOUR)))[0])
    assert answer.code == aiocoap.FORBIDDEN and answer.opt.oscore is None
    assert session.server.counters["address_of_another"] == 1 and len(session.server.got) == 1
    assert session.server.endpoint.last_heard(HOME).place == heard.place
    assert await session.server.ask(HOME, b"\xa0down") == b"\xa1\xa0down", "it goes to the home"
    session.broker.publish(up(tag_of(HOME)), held[0])
    await until(lambda: len(session.server.got) == 2)  # nor was its number used up


async def test_a_handshake_of_one_gateway_on_the_topic_of_another_is_refused(house):
    await house.start(house.server)
    await house.home.start(links=[house.link(house.home, calls_itself=NEIGHBOUR)])
    house.home.knows(house.server)
    with pytest.raises(HandshakeFailed):
        await house.home.endpoint.connect(SERVER, place_of(SERVER))
    assert house.server.counters["address_of_another"] == 1
    assert HOME not in house.server.endpoint.entities()


async def test_after_a_failure_all_registered_gateways_come_back_at_once_and_strangers_do_not(house):
    await house.start(house.server, house.home)
    handshakes = int(tuning.HANDSHAKES_MAX[1])
    strangers = [tag_of(f"stranger {number}") for number in range(handshakes + 50)]
    first = []
    house.broker.lose = lambda where, payload: where == up(tag_of(HOME)) and not first.append(payload)
    beginning = asyncio.create_task(house.home.endpoint.connect(SERVER, place_of(SERVER)))
    await until(lambda: first)
    house.broker.lose = lambda where, payload: False
    for tag in strangers:
        house.broker.publish(f"keycast/1/up/{int(tag[:2], 16) % SHARDS}/{tag}", first[0])
    house.broker.publish(up(tag_of(HOME)), first[0])
    await beginning
    assert house.server.counters["handshakes_limited"] >= 49, "the strangers have used up what all of them have"
    assert house.home.counters["handshakes_done"] == 1
