"""The link over MQTT at a broker that does what a test asks for: losses, refusals, 3.1.1, and nonsense."""

import asyncio
import contextlib
import logging
import socket
from collections import Counter

import pytest

from message_plane import tuning
from message_plane.errors import PeerUnreachable
from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_brokers import Brokers
from message_plane.links.mqtt_client import means_of
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_presence import Whereabouts
from message_plane.links.mqtt_section import Broker, broker_of
from message_plane.links.mqtt_topics import SHARDS, down, place_of, presence, shard_of, tag_of, up
from tests.integration.test_mqtt_link import HOME, SERVER, ends, of_gateway, of_server, to_and_fro
from tests.integration.toy_broker import NOT_AUTHORISED, ToyBroker, packet
from tests.waiting import until

TAG = tag_of(HOME)


@pytest.fixture
async def broker():
    broker = await ToyBroker().start()
    yield broker
    await broker.stop()


@contextlib.asynccontextmanager
async def both(broker, **settings):
    """A Server and a PN GW at `broker`."""
    async with ends(of_server(broker, **settings), of_gateway(broker, **settings)) as opened:
        yield opened


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_datagrams_go_up_and_down_in_both_versions(broker, version):
    async with both(broker, version=version) as (server, gateway):
        await to_and_fro(gateway, server)
    assert {level for _, level, *_ in broker.connects} == {5 if version == "5" else 4}


async def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(broker):
    broker.has_5 = False
    async with both(broker) as (server, gateway):
        await until(lambda: server.link.brokers[0].connected and gateway.link.brokers[0].connected)
        await to_and_fro(gateway, server)
        levels = [level for _, level, *_ in broker.connects]
        assert levels.count(5) == 2 and levels[-1] == 4
        assert gateway.link.brokers[0].problem == ""


# What counts and is ignored


async def test_what_a_broker_has_kept_is_no_datagram(broker):
    broker.retained[down(TAG)] = b"an old one"
    async with both(broker) as (server, gateway):
        broker.publish(up(TAG), b"kept by order of its sender", retain=True)
        await until(lambda: gateway.link.counters["mqtt_retained"] == server.link.counters["mqtt_retained"] == 1)
        await to_and_fro(gateway, server)
        assert gateway.received.empty() and server.received.empty()


async def test_what_is_longer_than_a_datagram_is_dropped(broker):
    async with both(broker, version="3.1.1") as (server, gateway):
        broker.publish(up(TAG), bytes(1 << 20))
        broker.publish(up(TAG), bytes(server.link.datagram_max))
        assert len((await server.take())[0]) == server.link.datagram_max
        assert server.link.counters["mqtt_oversize"] == 1
        await to_and_fro(gateway, server)


FOREIGN = [
    "keycast/1/up/0/" + "g" * 32,
    "keycast/1/up/0/" + TAG.upper(),
    "keycast/1/up/0/",
    "keycast/1/up/0/short",
    "keycast/1/up/0/" + 40 * "a",
    f"keycast/1/up/{(shard_of(HOME) + 1) % SHARDS}/{TAG}",
    f"keycast/1/up/0{shard_of(HOME)}/{TAG}",
    f"keycast/1/st/x{TAG[1:]}",
    "keycast/1/st/\u00e9\u0444\U0001f600",
]


@pytest.mark.parametrize("topic", FOREIGN)
async def test_a_topic_that_is_none_of_ours_is_counted(broker, topic):
    async with both(broker) as (server, gateway):
        for session in broker.sessions.values():
            if session.topics.keys() & {"keycast/1/st/+"}:
                session.deliver(topic, b"1", False)
        await until(lambda: server.link.counters["mqtt_foreign"] == 1)
        await to_and_fro(gateway, server)
        assert server.received.empty()


@pytest.mark.parametrize("payload", [b"", b"2", b"01", b"\xff", bytes(100_000)])
async def test_a_presence_that_is_neither_of_the_two_is_counted(broker, payload):
    async with both(broker) as (server, gateway):
        broker.publish(presence(TAG), payload)
        broker.publish(presence(tag_of(SERVER)), payload)
        await until(lambda: server.link.counters["mqtt_foreign"] == 2 and gateway.link.counters["mqtt_foreign"] == 1)
        assert server.link.is_present(place_of(HOME)) and gateway.link.is_present(place_of(SERVER))


async def test_a_shard_that_is_not_served_any_more_is_not_heard(broker):
    async with ends(of_server(broker, serves=[shard_of(HOME)]), of_gateway(broker)) as (server, gateway):
        await to_and_fro(gateway, server)
        await server.link.serve([shard_of(HOME) ^ 1])
        gateway.link.send(await gateway.link.find(place_of(SERVER)), b"not for you")
        await until(lambda: broker.published[-1][2] == b"not for you")
        broker.sessions[tag_of(SERVER)].deliver(up(TAG), b"late", False)
        await until(lambda: server.link.counters["mqtt_foreign"] == 1)
        await server.link.serve(range(SHARDS))
        await to_and_fro(gateway, server)
        assert server.received.empty()


async def test_subscriptions_of_an_earlier_run_end_with_the_shards_that_it_served(broker):
    async with ends(of_server(broker)):
        assert len(broker.sessions[tag_of(SERVER)].topics) == SHARDS + 1
    async with ends(of_server(broker, serves=[3])):
        assert set(broker.sessions[tag_of(SERVER)].topics) == {"keycast/1/up/3/+", "keycast/1/st/+"}


async def test_a_datagram_that_cannot_be_taken_does_not_end_the_connection(broker, caplog):
    async with both(broker) as (server, gateway):
        taken = server.link._receive
        server.link._receive = lambda datagram, address: {}["no such key"]
        gateway.link.send(await gateway.link.find(place_of(SERVER)), b"question")
        await until(lambda: "was not taken" in caplog.text)
        server.link._receive = taken
        await to_and_fro(gateway, server)
        assert len(broker.connects) == 2


async def test_a_connection_for_a_trial_leaves_nothing_behind(broker):
    means = means_of(MqttSection(brokers=[broker.url]), HOME, "trial")
    for is_5 in (True, False):
        trial = BrokerConnection(
            broker_of(broker.url), means, lambda *_: None, lambda _: None, Counter(), is_5=is_5, clean=True
        )
        await trial.open()
        await trial.subscribe([down(TAG)])
        broker.sessions[f"{TAG}-trial"].writer.close()  # not in order, so that a will would be published
        await trial.lost()
        await trial.close()
        assert presence(TAG) not in broker.retained
    assert f"{TAG}-trial" not in broker.sessions
    assert b"\x11" + bytes(4) in broker.connects[0][3], "in MQTT 5 the session expires at once"


# Sending


async def test_at_most_so_many_are_open_and_the_oldest_to_the_same_receiver_is_dropped(broker):
    async with both(broker) as (server, _):
        await until(lambda: server.link.is_present(place_of(HOME)))
        broker.acknowledges = False
        before = len(broker.published)
        address = await server.link.find(place_of(HOME))
        for number in range(tuning.MQTT_OPEN_MAX + tuning.MQTT_WAITING_PER_TOPIC + 10):
            server.link.send(address, str(number).encode())
        await until(lambda: len(broker.published) == before + tuning.MQTT_OPEN_MAX)
        assert server.link.counters["mqtt_dropped"] == 10
        await asyncio.sleep(1)
        assert len(broker.published) == before + tuning.MQTT_OPEN_MAX


async def test_what_a_broker_says_about_itself_is_kept_to(broker):
    broker.says = b"\x21\x00\x03\x27\x00\x01\x00\x00"  # receive maximum 3, maximum packet size 65,536
    async with both(broker) as (server, gateway):
        await until(lambda: server.link.is_present(place_of(HOME)) and gateway.link.is_present(place_of(SERVER)))
        broker.acknowledges = False
        before = len(broker.published)
        address = await server.link.find(place_of(HOME))
        for _ in range(5):
            server.link.send(address, b"datagram")
        await until(lambda: len(broker.published) == before + 2)
        with pytest.raises(OSError, match="longer than a message of this broker"):
            gateway.link.send(await gateway.link.find(place_of(SERVER)), bytes(65_536))
        await asyncio.sleep(1)
        assert len(broker.published) == before + 2


async def test_nothing_is_sent_while_no_broker_is_connected(broker):
    async with both(broker) as (server, gateway):
        address = await gateway.link.find(place_of(SERVER))
        await broker.stop()
        await until(lambda: not gateway.link.brokers[0].connected)
        with pytest.raises(OSError, match="no broker is connected"):
            gateway.link.send(address, b"lost")
        await broker.start()
        await until(lambda: gateway.link.brokers[0].connected and server.link.brokers[0].connected)
        await to_and_fro(gateway, server)


async def test_what_comes_while_an_end_is_away_is_kept_for_it(broker):
    async with ends(of_server(broker)) as (server,):
        async with ends(of_gateway(broker)):
            address = await server.link.find(place_of(HOME))
            await until(lambda: server.link.is_present(place_of(HOME)))
        await until(lambda: server.link.is_present(place_of(HOME)) is False)
        server.link.send(address, b"for later")
        await until(lambda: broker.published[-1][2] == b"for later")
        async with ends(of_gateway(broker)) as (gateway,):
            assert (await gateway.take())[0] == b"for later"


HOUR = (3600).to_bytes(4, "big")


async def test_in_mqtt_5_a_session_and_each_datagram_expire_after_an_hour(broker):
    async with both(broker) as (server, gateway):
        await to_and_fro(gateway, server)
        assert broker.properties == b"\x02" + HOUR
    assert all(b"\x11" + HOUR in properties and not clean for _, _, clean, properties in broker.connects)


@pytest.mark.parametrize(("away_s", "arrives"), [(600, True), (3700, False)])
async def test_in_3_1_1_an_end_that_was_away_for_an_hour_clears_its_session(broker, away_s, arrives):
    async with both(broker, version="3.1.1") as (server, gateway):
        await until(lambda: server.link.is_present(place_of(HOME)))
        broker.refuse = 3  # only for who connects again
        broker.sessions[TAG].writer.close()
        await until(lambda: not gateway.link.brokers[0].connected)
        server.link.send(await server.link.find(place_of(HOME)), b"kept")
        await asyncio.sleep(away_s)
        broker.refuse = 0
        await until(lambda: gateway.link.brokers[0].connected)
        if arrives:
            assert (await gateway.take())[0] == b"kept"
        await to_and_fro(gateway, server)
        assert gateway.received.empty()


async def test_in_3_1_1_what_waits_from_before_the_start_is_cleared(broker):
    for _ in range(2):
        async with ends(of_gateway(broker, version="3.1.1")) as (gateway,):
            assert gateway.received.empty()
            assert [clean for _, _, clean, _ in broker.connects[-2:]] == [True, False]
        broker.sessions[TAG].deliver(down(TAG), b"from before", False)


async def test_a_gateway_reaches_its_server_only(broker):
    async with ends(of_gateway(broker)) as (gateway,):
        with pytest.raises(PeerUnreachable, match="is not the CPNS Server"):
            await gateway.link.find(place_of("neighbour-gw"))


@pytest.mark.parametrize("place", ["", "mqtt:", "mqtt:home-gw", f"mqtt:{TAG.upper()}", f"mqtt:{TAG}0", "udp:1.2.3.4:5"])
async def test_what_is_no_place_of_mqtt_is_out_of_reach(broker, place):
    async with ends(of_gateway(broker)) as (gateway,):
        with pytest.raises(PeerUnreachable, match="is no place of MQTT"):
            await gateway.link.find(place)


# Trouble, in words


REFUSALS = {
    133: "client IDs",
    134: "user and password_file",
    NOT_AUTHORISED: "allow_anonymous",
    137: "busy",
    138: "banned",
    151: "Look into the broker's log",
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refusal_is_one_line_with_the_broker_the_reason_and_the_next_step(broker, code, caplog):
    caplog.set_level(logging.WARNING)
    broker.refuse = code
    async with ends(of_gateway(broker)) as (gateway,):
        state = gateway.link.brokers[0]
        assert not state.connected and broker.url in state.problem and REFUSALS[code] in state.problem
        await until(lambda: len(broker.connects) > 5)
        assert [record.message for record in caplog.records] == [f"KC3105 {state.problem}"]
        broker.refuse = 0
        await until(lambda: gateway.link.brokers[0].connected)
        assert gateway.link.brokers[0].problem == ""


async def test_a_broker_that_has_stopped_does_not_answer_and_is_not_taken_for_one_of_3_1_1(broker):
    broker.answers = False
    async with ends(of_gateway(broker)) as (gateway,):
        assert "does not answer" in gateway.link.brokers[0].problem
        await asyncio.sleep(100)
        broker.answers = True
        await until(lambda: gateway.link.brokers[0].connected)
    assert {level for _, level, *_ in broker.connects} == {5}


async def test_an_end_can_be_closed_while_a_broker_does_not_answer(broker):
    broker.answers = False
    gateway = of_gateway(broker)
    opening = asyncio.create_task(gateway.open(lambda datagram, address: None))
    await until(lambda: broker.connects)
    await gateway.close()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    assert gateway.places == [] and not gateway.brokers[0].connected


async def test_a_topic_that_a_broker_does_not_let_an_end_hear_is_named(broker):
    broker.refused_topics = (down(TAG),)
    async with ends(of_gateway(broker)) as (gateway,):
        assert not gateway.link.brokers[0].connected
        assert f"topic read {down(TAG)}" in gateway.link.brokers[0].problem


async def test_a_topic_that_a_broker_does_not_let_an_end_publish_at_is_named_and_counted(broker):
    broker.may_publish = lambda user, topic: "/up/" not in topic
    async with both(broker) as (server, gateway):
        gateway.link.send(await gateway.link.find(place_of(SERVER)), b"question")
        await until(lambda: gateway.link.counters["mqtt_refused"] == 1)
        assert gateway.link.brokers[0].connected
        assert f"topic write {up(TAG)}" in gateway.link.brokers[0].problem
        assert server.received.empty()


async def test_two_processes_with_one_identity_are_told_and_fight_less_and_less(broker):
    async with ends(of_gateway(broker)) as (first,), ends(of_gateway(broker)):
        await until(lambda: "another process with the same identity" in first.link.brokers[0].problem)
        await asyncio.sleep(1000)
        assert len(broker.connects) < 200


async def test_files_that_a_person_has_replaced_are_read_again_when_a_broker_has_refused_the_former(tmp_path):
    read = []

    def means():
        read.append(None)
        return means_of(MqttSection(brokers=["mqtt://127.0.0.1:9"]), HOME)

    async def never(connection):
        raise AssertionError

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and nobody listens there
        there = Broker("127.0.0.1", nobody.getsockname()[1], True)
        brokers = Brokers([there], means, version="5", counters=Counter(), arrived=never, begin=never, use=never)
        await brokers.open(any_one=True)
        await until(lambda: len(read) > 3)
        await brokers.close()


HOSTILE = [
    b"\x30\xff\xff\xff\xff\xff\xff",  # a length of more than four octets
    b"\x32\x02\xff\xff",  # a topic that is longer than its packet
    b"\x00\x00",
    b"\xf0\x00",
    packet(4, b"\x00"),  # an acknowledgement without a number
    packet(4, b"\xff\xff\x87"),  # of what was never sent
    packet(9, b"\x00\x01\x00\x87"),
    packet(3, b"\x00\x02\xff\xfe\x00\x00x"),  # a topic that is no UTF-8
    packet(3, b"\x00\x00\x00x"),  # an empty topic
    packet(14, b"\x8b"),
    packet(2, b"\x00\x00\x00"),
    b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(100),
]


@pytest.mark.parametrize("octets", HOSTILE)
async def test_a_broker_that_talks_nonsense_is_left_or_ignored_and_comes_back(broker, octets, caplog):
    async with both(broker) as (server, gateway):
        broker.send(octets)
        await asyncio.sleep(100)
        await until(lambda: gateway.link.brokers[0].connected and server.link.brokers[0].connected)
        await to_and_fro(gateway, server)
        assert "fault of this program" not in caplog.text


# Several brokers


async def test_a_gateway_takes_any_broker_that_lets_it_in(broker):
    other = await ToyBroker().start()
    try:
        broker.refuse = NOT_AUTHORISED
        async with ends(of_server(broker, other), of_gateway(broker, other)) as (server, gateway):
            await to_and_fro(gateway, server)
            assert [state.connected for state in gateway.link.brokers] == [False, True]
    finally:
        await other.stop()


async def test_what_is_for_a_gateway_that_was_not_heard_yet_goes_where_it_says_it_is(broker):
    other = await ToyBroker().start()
    try:
        async with ends(of_server(broker, other), of_gateway(other)) as (server, gateway):
            await until(lambda: server.link.is_present(place_of(HOME)))
            server.link.send(await server.link.find(place_of(HOME)), b"down")
            assert (await gateway.take())[0] == b"down"
            assert not [topic for _, topic, _ in broker.published if topic == down(TAG)]
            server.link.send(await server.link.find(place_of("another")), b"down")
            await until(lambda: all(b.published[-1][1] == down(tag_of("another")) for b in (broker, other)))
    finally:
        await other.stop()


async def test_a_gateway_leaves_a_broker_that_the_server_is_not_at(broker):
    other = await ToyBroker().start()
    try:
        async with ends(of_gateway(broker, other), of_server(other)) as (gateway, server):
            assert [state.connected for state in gateway.link.brokers] == [True, False]
            await until(lambda: gateway.link.brokers[1].connected)
            assert "does not have the CPNS Server" in gateway.link.brokers[0].problem
            await to_and_fro(gateway, server)
            await asyncio.sleep(1000)
            assert gateway.link.brokers[1].connected, "it stays where the Server is"
    finally:
        await other.stop()


async def test_an_end_that_reads_that_it_is_gone_says_that_it_is_here(broker):
    async with both(broker) as (server, gateway):
        await until(lambda: gateway.link.is_present(place_of(SERVER)))
        broker.publish(presence(tag_of(SERVER)), b"0", retain=True)  # the will of another process
        await until(lambda: (place_of(SERVER), False) in gateway.hints)
        await until(lambda: gateway.link.is_present(place_of(SERVER)))
        assert broker.retained[presence(tag_of(SERVER))] == b"1"
        assert server.link.brokers[0].connected


def test_a_link_without_a_broker_cannot_be():
    with pytest.raises(ValueError, match="no broker"):
        MqttLink(MqttSection(brokers=[]), HOME, server_id=SERVER)


async def test_a_peer_that_comes_back_with_the_broker_is_hinted_at_however_soon():
    hints, peer = [], Whereabouts()
    peer.back(lambda: hints.append("first"))
    peer.back(lambda: hints.append("repeated"))
    await asyncio.sleep(tuning.MQTT_HINT_S / 2)
    peer.missed()
    peer.back(lambda: hints.append("again"))
    assert hints == ["first"]
    await asyncio.sleep(tuning.MQTT_HINT_S)
    assert hints == ["first", "again"]
