"""Whom a link vouches for, and the room that such a peer has at the reception, with a clock of the test's own."""

import pytest

from message_plane import credentials, tuning, vouched
from message_plane.flood import FloodGuard, Verdict
from message_plane.half_open import HalfOpen
from message_plane.links.memory import Ether, MemoryLink
from message_plane.links.mqtt import MqttAddress, MqttLink, MqttSection
from message_plane.links.mqtt_topics import SHARDS, place_of, tag_of
from message_plane.vouched import Vouched

X = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")  # the generator of P-256


class Store:
    """A store that counts how often all credentials are read."""

    def __init__(self):
        self.names = ["home-gw"]
        self.reads = 0

    def registered(self):
        self.reads += 1
        return [credentials.of(name, "gateway", X) for name in self.names]


class Responder:
    def __init__(self, c_r):
        self.c_r = c_r


@pytest.fixture
def link():
    return MqttLink(MqttSection(brokers=["mqtt://broker.example"]), "cpns-server", serves=range(SHARDS))


@pytest.fixture
def clock(monkeypatch):
    clock = {"now": 1000.0}
    monkeypatch.setattr(vouched, "monotonic", lambda: clock["now"])
    return clock


def test_a_registered_entity_is_found_by_its_place_and_all_are_read_once_in_a_while(link, clock):
    store = Store()
    known = Vouched(store)
    assert known.name(link, place_of("home-gw")) == "home-gw" and store.reads == 1
    assert known.name(link, place_of("new-gw")) is None
    store.names.append("new-gw")
    for _ in range(100):
        assert known.name(link, place_of("new-gw")) is None
    assert store.reads == 1
    clock["now"] += tuning.VOUCHED_S
    assert known.name(link, place_of("new-gw")) == "new-gw" and store.reads == 2


def test_a_link_that_vouches_for_nobody_costs_no_look_at_the_store(clock):
    store, link = Store(), MemoryLink(Ether())
    assert Vouched(store).name(link, "memory:a:1") is None and store.reads == 0


async def test_a_link_that_vouches_for_nobody_lets_everybody_be_anywhere(link):
    memory = MemoryLink(Ether(), ["a:1"])
    await memory.open(lambda datagram, address: None)
    assert (await memory.find("memory:b:1")).may_be("home-gw")
    await memory.close()
    address = MqttAddress(link, tag_of("home-gw"))
    assert address.may_be("home-gw") and not address.may_be("neighbour-gw") and not address.may_be("")


@pytest.mark.req("SEC-21")
def test_all_that_are_known_may_come_at_once_each_at_its_own_rate(link):
    guard, table = FloodGuard(bytes(32)), HalfOpen()
    addresses = [MqttAddress(link, tag_of(str(number))) for number in range(2000)]
    for number, address in enumerate(addresses):
        assert guard.judge(address, None, table.crowded, 1000.0, known=True) is Verdict.PROCEED
        table.add(Responder(number.to_bytes(3, "big")), address, 1000.0, proven=True, known=True)
    assert len(table) == 2000 > tuning.HALF_OPEN_MAX and not table.crowded
    burst = tuning.HANDSHAKES_PER_ADDRESS[1]
    verdicts = [guard.judge(addresses[0], None, False, 1000.0, known=True) for _ in range(10)]
    assert verdicts == [Verdict.PROCEED] * (burst - 1) + [Verdict.REFUSE] * (11 - burst)
    strangers = [MqttAddress(link, tag_of(f"stranger {number}")) for number in range(1000)]
    passed = [guard.judge(address, None, False, 1000.0) for address in strangers].count(Verdict.PROCEED)
    assert passed == tuning.HANDSHAKES_MAX[1], "what the known have used is not taken from the others"


def test_one_that_is_known_has_one_handshake_half_open_and_displaces_no_stranger(link):
    table, address = HalfOpen(), MqttAddress(link, tag_of("home-gw"))
    stranger = MqttAddress(link, tag_of("stranger"))
    table.add(Responder(b"\0\0\0"), stranger, 1000.0, proven=True)
    for number in range(1, 4):
        table.add(Responder(bytes([0, 0, number])), address, 1000.0, proven=True, known=True)
    assert len(table) == 2 and table.take(b"\0\0\2", address) is None
    assert table.take(b"\0\0\3", stranger) is None, "it is not his"
    assert table.take(b"\0\0\3", address) is not None and table.take(b"\0\0\0", stranger) is not None
    assert len(table) == 0
    table.add(Responder(b"\0\0\4"), address, 1000.0, proven=True, known=True)
    assert table.expire(1000.0 + tuning.HALF_OPEN_S) == 1 and len(table) == 0


def test_there_is_an_end_to_the_room_of_those_that_are_known(link, monkeypatch):
    monkeypatch.setattr(tuning, "HALF_OPEN_KNOWN", 3)
    table = HalfOpen()
    addresses = [MqttAddress(link, tag_of(str(number))) for number in range(5)]
    for number, address in enumerate(addresses):
        table.add(Responder(bytes([0, 0, number])), address, 1000.0, proven=True, known=True)
    assert len(table) == 3 and b"\0\0\1" not in table and b"\0\0\2" in table
