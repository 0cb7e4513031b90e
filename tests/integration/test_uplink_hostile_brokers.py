"""A hostile broker, and hostile clients of an honest one, against the link over MQTT and the sessions above it.

Whatever they send, this end does bounded work, keeps bounded memory, writes few lines into its log, and serves those
who come by another broker. A hint proves nothing (SEC-27).
"""

import asyncio
import contextlib
import logging
import random
import struct
from collections import Counter

import pytest

from message_plane import tuning
from message_plane.links import mqtt_trouble
from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_client import _PACKET_MAX
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_topics import SHARDS, place_of, presence, tag_of, up
from tests.integration.plane_world import Party
from tests.integration.test_mqtt_brokers import both
from tests.integration.test_mqtt_link import HOME, SERVER, ends, of_gateway, of_server, to_and_fro
from tests.integration.toy_broker import (
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    UNSUBACK,
    ToyBroker,
    packet,
    text,
)
from tests.waiting import until

TAG, SERVER_TAG = tag_of(HOME), tag_of(SERVER)
NEIGHBOUR = "neighbour-gw"


@pytest.fixture
async def broker():
    broker = await ToyBroker().start()
    yield broker
    await broker.stop()


@pytest.fixture
async def other():
    broker = await ToyBroker().start()
    yield broker
    await broker.stop()


def session_of(broker, name):
    """The session of an end at a broker."""
    return next(session for client, session in broker.sessions.items() if client.startswith(tag_of(name)))


# Packets


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_packet_of_the_greatest_length_is_never_in_memory_as_a_whole(broker, version, monkeypatch):
    asked = []
    async with both(broker, version=version) as (server, _):
        connection = next(iter(server.link._connections.values()))
        buffered = connection._client._client._sock
        take = buffered._take
        monkeypatch.setattr(buffered, "_take", lambda most: asked.append(most) or take(most))
        writer = session_of(broker, SERVER).writer
        length, head = 0x0FFFFFFF, text(up(TAG)) + struct.pack("!H", 7) + (b"\0" if version == "5" else b"")
        writer.write(bytes([PUBLISH << 4 | 2, 0xFF, 0xFF, 0xFF, 0x7F]) + head)
        left, chunk = length - len(head), bytes(1 << 16)
        for _ in range(64):  # a part of it, as it would take a while
            writer.write(chunk)
            await writer.drain()
            left -= len(chunk)
        await until(lambda: server.link.counters["mqtt_oversize"] == 1)
        await until(lambda: buffered._rest <= left)
        assert max(asked) <= _PACKET_MAX
        assert len(connection._client._client._in_packet["packet"]) == 0
        assert server.link.brokers[0].connected and server.received.empty()


async def test_what_comes_after_a_packet_that_is_too_long_is_read(broker):
    async with both(broker, version="3.1.1") as (server, _):
        for surplus in (1, 2, 8192, 1 << 16, 1 << 20):
            broker.publish(up(TAG), bytes(_PACKET_MAX + surplus))
            broker.publish(up(TAG), b"after %d" % surplus)
            assert (await server.take())[0] == b"after %d" % surplus
        assert server.link.counters["mqtt_oversize"] == 5


async def test_what_is_sent_with_qos_2_is_not_kept_for_its_second_half(broker):
    async with both(broker) as (server, gateway):
        connects = len(broker.connects)
        for number in range(1, 50):
            body = text(up(TAG)) + struct.pack("!H", number) + b"\0" + bytes(1000)
            session_of(broker, SERVER).writer.write(packet(PUBLISH, body, 4))
        await until(lambda: len(broker.connects) > connects)
        await until(lambda: server.link.brokers[0].connected)
        await to_and_fro(gateway, server)
        assert server.received.empty()


async def test_a_broker_that_sends_and_reads_nothing_is_left(broker, monkeypatch):
    monkeypatch.setattr(tuning, "MQTT_UNSENT_MAX", 8)
    async with both(broker) as (server, gateway):
        connection = next(iter(server.link._connections.values()))
        sock = connection._client._client._sock
        monkeypatch.setattr(sock, "send", lambda octets: (_ for _ in ()).throw(BlockingIOError()))
        connects = len(broker.connects)
        for number in range(100):
            session_of(broker, SERVER).deliver(up(TAG), b"%d" % number, False)
        await until(lambda: len(broker.connects) > connects)
        await until(lambda: server.link.brokers[0].connected)
        while not server.received.empty():
            server.received.get_nowait()
        await to_and_fro(gateway, server)


# Log lines and pauses


async def test_a_broker_that_lets_an_end_in_and_drops_it_costs_few_connections_and_few_lines(broker, caplog):
    caplog.set_level(logging.INFO)
    async with ends(of_server(broker)) as (server,):
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 3600
        while loop.time() < ends_at:
            await until(lambda: server.link.brokers[0].connected)
            await asyncio.sleep(tuning.MQTT_STABLE_S + 1)  # just long enough to count as stable
            connects = len(broker.connects)
            broker.sessions[SERVER_TAG].writer.close()
            await until(lambda connects=connects: len(broker.connects) > connects)
        assert len(broker.connects) > 200
        lines = [record for record in caplog.records if broker.url in record.message]
        assert len(lines) <= tuning.MQTT_LOG_LINES[1] + 3600 * tuning.MQTT_LOG_LINES[0] + 1


async def test_a_broker_that_refuses_each_topic_in_turn_fills_no_log(broker, caplog):
    caplog.set_level(logging.INFO)
    async with ends(of_server(broker)) as (server,):
        broker.may_publish = lambda user, topic: False
        for number in range(500):
            server.link.send(await server.link.find(place_of(f"gw-{number}")), b"down")
        await until(lambda: server.link.counters["mqtt_refused"] >= 500)
        assert len(caplog.records) <= tuning.MQTT_LOG_LINES[1]
        assert "topic write" in server.link.brokers[0].problem, "the newest is in its state"


# Presence


async def test_a_lie_about_the_own_presence_is_contradicted_once_a_second_at_most(broker):
    async with both(broker) as (server, _):
        said = len(broker.published)
        for _ in range(300):
            broker.publish(presence(TAG), b"0")
            broker.publish(presence(SERVER_TAG), b"0")
        await asyncio.sleep(10 * tuning.MQTT_SAY_AGAIN_S)
        told = Counter(topic for _, topic, payload in broker.published[said:] if payload == b"1")
        assert told[presence(SERVER_TAG)] == 1 and told[presence(TAG)] <= 1
        assert server.link.is_present(place_of(HOME)) is not None


async def test_presence_that_changes_all_the_time_is_a_hint_now_and_then(broker):
    async with both(broker) as (server, gateway):
        await until(lambda: server.hints and gateway.hints)
        await asyncio.sleep(2 * tuning.MQTT_HINT_S)
        server.hints.clear()
        gateway.hints.clear()
        for _ in range(400):
            for tag in (TAG, SERVER_TAG):
                broker.publish(presence(tag), b"0")
                broker.publish(presence(tag), b"1")
            await asyncio.sleep(0.1)
        for end, place in ((server, HOME), (gateway, SERVER)):
            backs = end.hints.count((place_of(place), True))
            assert 1 <= backs <= 40 / tuning.MQTT_HINT_S + 2


async def test_a_peer_that_comes_back_within_the_time_of_a_hint_is_told_at_the_end_of_it(broker):
    async with both(broker) as (server, _):
        await until(lambda: (place_of(HOME), True) in server.hints)
        server.hints.clear()
        broker.publish(presence(TAG), b"0")
        broker.publish(presence(TAG), b"1")
        broker.publish(presence(TAG), b"1")
        await asyncio.sleep(2 * tuning.MQTT_HINT_S)
        assert server.hints.count((place_of(HOME), True)) == 1


async def test_no_hint_comes_after_the_link_was_closed(broker):
    async with both(broker) as (server, _):
        await until(lambda: (place_of(HOME), True) in server.hints)
        broker.publish(presence(TAG), b"0")
        broker.publish(presence(TAG), b"1")
        await until(lambda: (place_of(HOME), False) in server.hints)
        await server.link.close()
        server.hints.clear()
        await asyncio.sleep(2 * tuning.MQTT_HINT_S)
        assert server.hints == []


# One hostile broker of two


class Homes:
    """A Server at two brokers and a PN GW at the first of them. The second one is hostile."""

    def __init__(self, folder, broker, other):
        self.server, self.home = Party(folder, SERVER, "server"), Party(folder, HOME, "gateway")
        self.broker, self.other = broker, other

    async def start(self):
        urls = [self.broker.url, self.other.url]
        section = MqttSection(brokers=urls, user=SERVER_TAG)
        self.link = MqttLink(section, SERVER, serves=range(SHARDS), counters=self.server.counters)
        await self.server.start(links=[self.link])
        section = MqttSection(brokers=urls[:1], user=TAG)
        await self.home.start(links=[MqttLink(section, HOME, server_id=SERVER, counters=self.home.counters)])
        self.server.knows(self.home)
        self.home.knows(self.server)
        return self

    async def stop(self):
        await self.home.stop()
        await self.server.stop()


@pytest.fixture
async def homes(tmp_path, broker, other):
    homes = await Homes(tmp_path, broker, other).start()
    yield homes
    await homes.stop()


async def inject(broker, topic, payloads, every_s=0.05):
    """Publish payloads at a topic of a broker, for ever."""
    while True:
        for payload in payloads:
            broker.publish(topic, payload)
            await asyncio.sleep(every_s)


@pytest.fixture
async def hostile(homes):
    """Injects at the hostile broker; ends with the test."""
    tasks = []
    yield lambda *what, **how: tasks.append(asyncio.create_task(inject(homes.other, *what, **how)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.req("SEC-27")
async def test_a_broker_that_makes_up_datagrams_does_not_turn_the_way_to_a_gateway(homes, hostile):
    await homes.home.endpoint.connect(SERVER, place_of(SERVER))
    assert await homes.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
    recorded = [payload for _, topic, payload in homes.broker.published if topic == up(TAG)]
    assert len(recorded) >= 3
    hostile(up(TAG), [b"\x50\x01\x00\x01", *recorded])
    hostile(presence(TAG), [b"1", b"0"])
    await asyncio.sleep(1)
    assert await homes.server.ask(HOME, b"\xa0down") == b"\xa1\xa0down"
    assert await homes.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
    assert homes.server.counters["requests_unanswered"] == homes.home.counters["requests_unanswered"] == 0


@pytest.mark.req("SEC-21")
async def test_a_broker_that_floods_handshakes_of_a_gateway_does_not_keep_it_out(homes, tmp_path):
    await homes.home.endpoint.connect(SERVER, place_of(SERVER))
    message_1 = next(payload for _, topic, payload in homes.broker.published if topic == up(TAG))
    await homes.home.stop()
    await asyncio.sleep(60)

    async def fresh():
        number = 0
        while True:
            number += 1
            mid = struct.pack("!H", number % 65536)
            homes.other.publish(up(TAG), message_1[:2] + mid + struct.pack("!I", number) + message_1[8:])
            await asyncio.sleep(0.01)

    flood = asyncio.create_task(fresh())
    try:
        await asyncio.sleep(5)
        assert homes.server.counters["handshakes_limited"] > 100
        homes.home.folder = tmp_path / "another machine"  # without its session
        homes.home.folder.mkdir()
        section = MqttSection(brokers=[homes.broker.url], user=TAG)
        await homes.home.start(links=[MqttLink(section, HOME, server_id=SERVER)])
        homes.home.knows(homes.server)
        await homes.home.endpoint.connect(SERVER, place_of(SERVER))
        assert await homes.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
    finally:
        flood.cancel()


@pytest.mark.req("SEC-21")
async def test_tags_of_nobody_share_a_small_room_and_leave_all_other_handshakes_theirs(homes):
    await homes.home.endpoint.connect(SERVER, place_of(SERVER))
    message_1 = next(payload for _, topic, payload in homes.broker.published if topic == up(TAG))
    started = homes.server.counters["handshakes_started"]
    for number in range(1000):
        homes.other.publish(up(tag_of(f"nobody-{number}")), message_1)
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    await until(lambda: homes.server.counters["datagrams_received"] >= 1000)
    computed = homes.server.counters["handshakes_started"] - started
    assert computed <= tuning.HANDSHAKES_PER_CARRIER[1] + 10 < tuning.HANDSHAKES_MAX[1]


async def test_a_flood_of_one_tag_is_dropped_before_it_costs_much_and_others_are_served(homes, tmp_path):
    neighbour = Party(tmp_path, NEIGHBOUR, "gateway")
    section = MqttSection(brokers=[homes.broker.url], user=tag_of(NEIGHBOUR))
    await neighbour.start(links=[MqttLink(section, NEIGHBOUR, server_id=SERVER, counters=neighbour.counters)])
    try:
        homes.server.knows(neighbour)
        neighbour.knows(homes.server)
        await homes.home.endpoint.connect(SERVER, place_of(SERVER))
        await neighbour.endpoint.connect(SERVER, place_of(SERVER))
        burst = tuning.MQTT_PER_SENDER[1]
        before = homes.server.counters["datagrams_received"]
        for number in range(3 * burst):
            homes.broker.publish(up(TAG), b"\x50\x02" + struct.pack("!H", number % 65536) + b"/x" * 20)
        assert await neighbour.ask(SERVER, b"\xa0up") == b"\xa1\xa0up"
        await until(lambda: homes.server.counters["mqtt_limited"] > burst)
        assert homes.server.counters["datagrams_received"] - before <= 2 * burst
        await asyncio.sleep(10)
        assert await homes.home.ask(SERVER, b"\xa0up") == b"\xa1\xa0up", "it is heard again"
    finally:
        await neighbour.stop()


async def test_many_tags_take_bounded_memory(broker, monkeypatch):
    monkeypatch.setattr(tuning, "MQTT_TAGS_REMEMBERED", 50)
    async with both(broker) as (server, gateway):
        for number in range(200):
            broker.publish(presence(tag_of(f"nobody-{number}")), b"1")
            broker.publish(up(tag_of(f"nobody-{number}")), b"x")
        await until(lambda: server.received.qsize() == 200)
        assert len(server.link._known) <= 50
        while not server.received.empty():
            server.received.get_nowait()
        await to_and_fro(gateway, server)


async def test_a_broker_that_answers_no_subscription_does_not_hold_up_the_others(broker, other):
    async with ends(of_server(broker, other, serves=[])) as (server,):
        await until(lambda: all(state.connected for state in server.link.brokers))
        session = session_of(broker, SERVER)
        session.writer.transport.pause_reading()
        serving = asyncio.create_task(server.link.serve(range(SHARDS)))
        await until(lambda: len(session_of(other, SERVER).topics) == SHARDS + 1, timeout_s=tuning.MQTT_CONNECT_S / 2)
        session.writer.transport.resume_reading()
        await serving


async def test_every_address_that_one_broker_can_make_up_counts_as_its_own():
    section = MqttSection(brokers=["mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"])
    link = MqttLink(section, SERVER, serves=range(SHARDS))
    taken = []
    link._receive = lambda datagram, address: taken.append(address)
    for broker in link._brokers._states:
        link._take(broker, up(TAG), b"x", False)
    first, second = taken
    assert first == second and hash(first) == hash(second) and first.place == second.place
    assert first.counted_as != second.counted_as and first.carrier != second.carrier


# Any answer


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_every_code_of_an_answer_to_connect_is_told_and_survived(broker, version, caplog):
    for code in (*range(1, 7), *range(125, 164), 255):
        broker.refuse = code
        async with ends(of_gateway(broker, version=version)) as (gateway,):
            state = gateway.link.brokers[0]
            assert not state.connected and broker.url in state.problem
    assert "fault of this program" not in caplog.text and "Traceback" not in caplog.text
    broker.refuse = 0
    async with both(broker, version=version) as (server, gateway):
        await to_and_fro(gateway, server)


@pytest.mark.parametrize("says", [b"\x21\x00\x00", b"\x21\x00\x01", b"\x27\x00\x00\x00\x01", b"\x24\x00", b"\x25\x00"])
async def test_limits_that_leave_no_room_are_survived(broker, says, caplog):
    """Of a CONNACK: no message open, or one; packets of one octet; QoS 0 only; nothing retained."""
    broker.says = bytes([len(says)]) + says
    async with ends(of_server(broker), of_gateway(broker)) as (server, gateway):
        for _ in range(3):
            for end, name in ((server, HOME), (gateway, SERVER)):
                with contextlib.suppress(OSError):
                    end.link.send(await end.link.find(place_of(name)), b"x")
            await asyncio.sleep(30)
    assert "fault of this program" not in caplog.text and "Traceback" not in caplog.text


@pytest.mark.parametrize("kind", [SUBACK, UNSUBACK, PUBACK, CONNACK, PINGRESP, DISCONNECT, PUBLISH, 5, 6, 7, 15, 0, 12])
async def test_random_packets_neither_end_the_program_nor_fill_its_log(broker, kind, caplog):
    caplog.set_level(logging.INFO)
    draw = random.Random(kind)
    async with both(broker) as (server, gateway):
        for _ in range(60):
            octets = draw.randbytes(draw.choice([0, 1, 2, 3, 5, 17, 200]))
            if draw.random() < 0.3:
                octets = b"\0\1" + octets  # the first message ID
            broker.send(packet(kind, octets, draw.randrange(16)))
            await asyncio.sleep(draw.choice([0, 0.01, 3]))
        await asyncio.sleep(200)
        await until(lambda: gateway.link.brokers[0].connected and server.link.brokers[0].connected)
        while not server.received.empty():
            server.received.get_nowait()
        await to_and_fro(gateway, server)
    assert "fault of this program" not in caplog.text and "Traceback" not in caplog.text
    assert len(caplog.records) <= 2 * (tuning.MQTT_LOG_LINES[1] + 10)


async def test_a_topic_alias_names_nobody(broker):
    """This end has allowed none (Topic Alias Maximum), so an alias without a topic is an empty topic."""
    async with both(broker) as (server, gateway):
        alias = b"\x03\x23\x00\x01"
        for topic in (up(TAG), ""):
            body = text(topic) + struct.pack("!H", 9) + alias + b"aliased"
            session_of(broker, SERVER).writer.write(packet(PUBLISH, body, 2))
        await until(lambda: server.link.counters["mqtt_foreign"] == 1)
        assert server.received.qsize() == 1
        server.received.get_nowait()
        await to_and_fro(gateway, server)


# The end of a connection


async def test_a_link_closes_also_if_a_cancellation_below_is_lost(broker, monkeypatch):
    lost = []

    async def lose_it(connection):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as `asyncio.wait_for` does with one that comes together with its result
            if lost:
                raise
            lost.append(connection)
        return mqtt_trouble.lost(connection.broker, None)

    monkeypatch.setattr(BrokerConnection, "lost", lose_it)
    async with ends(of_server(broker)) as (server,):
        assert server.link.brokers[0].connected
    assert lost
