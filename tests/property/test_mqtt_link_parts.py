"""The link over MQTT with any topics, payloads and orders of events: what it takes, its outbox, where peers are."""

import asyncio
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from message_plane import tuning
from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_outbox import Outbox
from message_plane.links.mqtt_presence import Whereabouts
from message_plane.links.mqtt_section import Broker, broker_of
from message_plane.links.mqtt_topics import (
    SHARDS,
    down,
    place_of_tag,
    presence,
    shard_of_tag,
    tag_of,
    tag_of_sender,
    up,
)

SERVER, HOME = "cpns-server", "home-gw"
BROKER = broker_of("mqtt://broker.example")
TAGS = st.text("0123456789abcdef", min_size=32, max_size=32)

# Words of topics, and what is nearly one of them
WORDS = st.one_of(
    TAGS,
    TAGS.map(str.upper),
    st.sampled_from(["keycast", "1", "up", "dn", "st", "", "+", "#", "0", "63", "64", "08", "-1"]),
)
TOPICS = st.one_of(
    st.text(max_size=80),
    st.lists(WORDS, max_size=7).map("/".join),
    st.tuples(st.sampled_from(["keycast/1/dn", "keycast/1/st"]), WORDS).map("/".join),
    st.tuples(st.just("keycast/1/up"), st.integers(-1, 70).map(str), WORDS).map("/".join),
)
PAYLOADS = st.one_of(st.binary(max_size=40), st.sampled_from([b"0", b"1", bytes(tuning.MQTT_DATAGRAM_MAX + 1)]))


def opened(**role):
    """A link that takes messages although no broker is there, and what it has received and hinted."""
    link = MqttLink(MqttSection(brokers=["mqtt://broker.example"]), HOME if "server_id" in role else SERVER, **role)
    received, hinted = [], []
    link._receive = lambda datagram, address: received.append((datagram, address.tag))
    link.hints = lambda place, here: hinted.append((place, here))
    return link, received, hinted


def take(link, *messages):
    """Let the link take each (topic, payload, retained) of `messages`."""

    async def take_all():
        for message in messages:
            link._take(BROKER, *message)

    asyncio.run(take_all())


@given(st.lists(st.tuples(TOPICS, PAYLOADS, st.booleans()), max_size=20), st.sets(st.integers(0, SHARDS - 1)))
def test_a_server_takes_datagrams_of_its_shards_under_their_own_tag_and_counts_all_else(messages, shards):
    link, received, hinted = opened(serves=shards)
    expected = []
    take(link, *messages)
    for topic, payload, retained in messages:
        tag = topic[-32:]
        is_one = len(tag) == 32 and set(tag) <= set("0123456789abcdef") and topic == up(tag)
        if is_one and shard_of_tag(tag) in shards and not retained and len(payload) <= link.datagram_max:
            expected.append((payload, tag))
    assert received == expected
    presences = [
        tag
        for (topic, payload, _) in messages
        if (tag := tag_of_sender(topic)) and topic == presence(tag) and payload in (b"0", b"1")
    ]
    assert {place for place, _ in hinted} <= {place_of_tag(tag) for tag in [*presences, *(tag for _, tag in expected)]}
    assert link.counters.total() + len(received) + len(presences) == len(messages)


@given(st.lists(st.tuples(TOPICS | st.just(down(tag_of(HOME))), PAYLOADS, st.booleans()), max_size=20))
def test_a_gateway_takes_what_is_for_it_alone(messages):
    link, received, _ = opened(server_id=SERVER)
    take(link, *messages)
    own = [(payload, retained) for topic, payload, retained in messages if topic == down(tag_of(HOME))]
    wanted = [payload for payload, retained in own if not retained and len(payload) <= link.datagram_max]
    assert received == [(payload, tag_of(SERVER)) for payload in wanted]
    assert set(link._known) <= {tag_of(SERVER)}, "it remembers nobody else"


@given(TAGS)
def test_a_tag_is_found_in_its_topics_only(tag):
    assert tag_of_sender(up(tag)) == tag_of_sender(presence(tag)) == tag
    assert tag_of_sender(down(tag)) is None
    other = f"keycast/1/up/{(shard_of_tag(tag) + 1) % SHARDS}/{tag}"
    assert tag_of_sender(other) is None and tag_of_sender(up(tag).upper()) is None


def test_only_so_many_tags_are_remembered(monkeypatch):
    monkeypatch.setattr(tuning, "MQTT_TAGS_REMEMBERED", 3)
    link, _, _ = opened(serves=range(SHARDS))
    tags = [tag_of(str(number)) for number in range(5)]
    take(link, *((presence(tag), b"1", True) for tag in tags))
    assert list(link._known) == tags[2:]


# The outbox: beside a list that does the same slowly

EVENTS = st.lists(st.one_of(st.integers(0, 4), st.sampled_from(["take", "acknowledged"])), max_size=120)


@given(EVENTS, st.integers(1, 5), st.integers(1, 4), st.integers(1, 9))
def test_an_outbox_keeps_order_and_limits_and_drops_the_oldest_to_the_same_receiver(events, most, per_topic, in_all):
    before = tuning.MQTT_WAITING_PER_TOPIC, tuning.MQTT_WAITING_MAX
    tuning.MQTT_WAITING_PER_TOPIC, tuning.MQTT_WAITING_MAX = per_topic, in_all
    try:
        outbox, waiting, is_open, put, taken = Outbox(most), deque(), 0, 0, 0
        for number, event in enumerate(events):
            if event == "take":
                found = outbox.take()
                assert (found is None) == (is_open == most or not waiting)
                if found is not None:
                    topic, datagram = found
                    assert topic == waiting.popleft() and datagram.startswith(topic.encode())
                    is_open, taken = is_open + 1, taken + 1
            elif event == "acknowledged" and is_open:
                outbox.acknowledged()
                is_open -= 1
            elif isinstance(event, int):
                topic = f"topic {event}"
                outbox.put(topic, f"{topic}, {number}".encode())
                put += 1
                if waiting.count(topic) < min(per_topic, in_all):
                    if len(waiting) == in_all:
                        waiting.popleft()
                    waiting.append(topic)
            assert len(outbox) == len(waiting) <= in_all
            assert put == taken + len(outbox) + outbox.dropped
    finally:
        tuning.MQTT_WAITING_PER_TOPIC, tuning.MQTT_WAITING_MAX = before


def test_of_those_to_one_receiver_the_newest_are_left():
    outbox = Outbox(1)
    for number in range(tuning.MQTT_WAITING_PER_TOPIC + 3):
        outbox.put("topic", str(number).encode())
    assert outbox.dropped == 3 and outbox.take() == ("topic", b"3")


# Whereabouts

BROKERS = [Broker(f"{number}.example", 8883, True) for number in range(3)]
SAID = st.lists(
    st.tuples(st.sampled_from(BROKERS), st.sampled_from(["here", "gone", "heard", "proved", "forget"])), max_size=30
)


@given(SAID, st.sets(st.sampled_from(BROKERS)), st.sampled_from([None, *BROKERS]))
def test_a_peer_is_sent_to_where_it_proved_itself_unless_it_has_left_and_what_is_only_heard_changes_nothing(
    said, connected, via
):
    where, at, gone, heard, proved = Whereabouts(), set(), set(), None, None
    for broker, what in said:
        if what == "heard":
            where.heard_by = heard = broker
        elif what == "proved":
            where.prove(broker, where.times_left)
            proved = broker
            gone.discard(broker)
        elif what == "forget":
            where.forget(broker)
            at.discard(broker)
        else:
            where.tell(broker, here=what == "here")
            at = at | {broker} if what == "here" else at - {broker}
            gone = gone - {broker} if what == "here" else gone | {broker}
            heard = None if what == "gone" and heard == broker else heard
            proved = None if what == "gone" and proved == broker else proved
    is_here = heard in connected or bool(at & connected)
    nowhere = bool(gone) and not at and bool(connected)
    assert where.is_present(connected) is (True if is_here else False if nowhere else None)
    brokers = where.brokers(sorted(connected, key=str), via)
    assert set(brokers) <= connected and (brokers or not connected)
    if via in connected - gone:
        assert brokers == [via], "an answer goes back where the question came from"
    elif proved in connected:
        assert brokers == [proved]
    elif at & connected:
        assert set(brokers) == at & connected
    else:
        assert set(brokers) == connected


def test_what_is_proved_after_the_peer_has_left_says_nothing_about_now():
    where = Whereabouts()
    where.heard_by, came = BROKERS[0], where.times_left
    where.tell(BROKERS[0], here=False)
    where.prove(BROKERS[0], came)  # a datagram that came before, verified only now
    assert where.is_present(BROKERS) is False and where.proved_by is None
