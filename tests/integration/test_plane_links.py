"""Links of the message plane: another one is one file and one line, an endpoint can hold several, faults are kept
apart."""

import random

import aiocoap
import pytest

from message_plane.cpns_resource import board_resource
from message_plane.errors import PeerUnreachable
from message_plane.links import by_scheme
from message_plane.links.link import DATAGRAM_MIN
from message_plane.links.memory import Ether, MemoryLink
from message_plane.links.udp import UdpLink
from tests.integration.plane_world import LOOPBACK, Party
from tests.waiting import PATIENCE_S, until

CON, ACK = 0, 2


def types_of(datagrams):
    """The CoAP types (CON, NON, ACK, RST) of the messages that are not empty."""
    messages = [aiocoap.Message.decode(datagram) for datagram in datagrams]
    return {int(message.mtype) for message in messages}


class World:
    """A gateway and a Server that know each other, each on links of its own."""

    def __init__(self, folder):
        self.gateway = Party(folder, "home-gw", "gateway")
        self.server = Party(folder, "cpns-server", "server")

    async def start(self, of_gateway, of_server):
        await self.gateway.start(links=of_gateway)
        await self.server.start(links=of_server)
        self.gateway.knows(self.server)
        self.server.knows(self.gateway)
        return self.gateway, self.server

    async def stop(self):
        await self.gateway.stop()
        await self.server.stop()


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    yield world
    await world.stop()


# A further link: `toy_link.py`, and one line in the table


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(by_scheme.LINKS, "toy", "tests.integration.toy_link")

    def links(loft):
        return by_scheme.links_of({"toy": by_scheme.kind("toy").SECTION(loft=loft)})

    return links


async def test_a_link_of_one_file_and_one_line_carries_sessions_requests_and_blocks(world, toy):
    gateway, server = await world.start(toy("gateway"), toy("server"))
    server.answer = lambda payload: payload[::-1]
    await gateway.endpoint.connect("cpns-server", "toy:server")
    message = b"\xa0" + random.Random(1).randbytes(20_000)
    assert await gateway.ask("cpns-server", message) == message[::-1]
    assert await server.ask("home-gw", b"\xa0down") == b"\xa1\xa0down"
    assert gateway.endpoint.last_heard("cpns-server").place == "toy:server"


async def test_a_session_on_it_survives_a_restart(world, toy):
    gateway, server = await world.start(toy("gateway"), toy("server"))
    await gateway.endpoint.connect("cpns-server", "toy:server")
    await gateway.ask("cpns-server", b"\xa0")
    await server.stop()
    await server.start(links=toy("server"))
    assert await server.ask("home-gw", b"\xa0down") == b"\xa1\xa0down"  # the place is in the store
    assert await gateway.ask("cpns-server", b"\xa0up") == b"\xa1\xa0up"
    assert gateway.counters["handshakes_done"] == 1


async def test_its_size_decides_the_blocks_and_what_fits_in_none_is_refused_before_it_is_sent(world, toy):
    (of_gateway,), (of_server,) = toy("gateway"), toy("server")
    gateway, server = await world.start([of_gateway], [of_server])
    server.answer = lambda payload: payload
    await gateway.endpoint.connect("cpns-server", "toy:server")
    await gateway.ask("cpns-server", bytes(1000))
    longest = max(map(len, of_gateway.sent + of_server.sent))
    assert 64 < longest <= of_gateway.datagram_max
    assert gateway.counters["datagrams_unsent"] == server.counters["datagrams_unsent"] == 0
    gateway.resources["server"]["cpns"] = board_resource(gateway.handle)  # without blocks
    with pytest.raises(PeerUnreachable, match="1000 octets are more than a datagram"):
        await gateway.ask("cpns-server", bytes(1000))


async def test_an_answer_comes_in_blocks_as_small_as_those_of_the_request(world):
    """The peer may be one that takes no larger ones (RFC 7959, 2.3)."""
    ether = Ether()
    small = MemoryLink(ether, ["gateway:1"], datagram_max=DATAGRAM_MIN)
    gateway, server = await world.start([small], [MemoryLink(ether, ["server:1"])])
    server.answer = lambda payload: payload[::-1]
    await gateway.endpoint.connect("cpns-server", "memory:server:1")
    message = b"\xa0" + random.Random(2).randbytes(3000)
    assert await gateway.ask("cpns-server", message) == message[::-1]
    assert gateway.counters["datagrams_malformed"] == 0


@pytest.mark.parametrize("reliable", [True, False])
async def test_over_a_reliable_link_nothing_is_acknowledged_or_repeated(world, reliable):
    ether = Ether()
    sent = []
    send = ether.send
    ether.send = lambda source, target, datagram: (sent.append(datagram), send(source, target, datagram))
    links = [MemoryLink(ether, [name], reliable=reliable) for name in ("gateway:1", "server:1")]
    gateway, _ = await world.start(links[:1], links[1:])
    await gateway.endpoint.connect("cpns-server", "memory:server:1")
    await gateway.ask("cpns-server", b"\xa0")
    assert bool(types_of(sent) & {CON, ACK}) == (not reliable)
    ether.loss = 1.0  # which no reliable link has: it shows that nothing is sent again
    sent.clear()
    with pytest.raises(PeerUnreachable):
        await gateway.ask("cpns-server", b"\xa0", timeout_s=PATIENCE_S)
    assert (len(sent) == 1) == reliable


async def test_a_request_that_a_reliable_link_doubles_is_handled_once(world):
    """A broker may deliver twice (SEC-27)."""
    ether = Ether(doubling=1.0)
    links = [MemoryLink(ether, [name], reliable=True) for name in ("gateway:1", "server:1")]
    gateway, server = await world.start(links[:1], links[1:])
    await gateway.endpoint.connect("cpns-server", "memory:server:1")
    for n in range(5):
        assert await gateway.ask("cpns-server", b"\xa0%d" % n) == b"\xa1\xa0%d" % n
    assert [payload for _, payload in server.got] == [b"\xa0%d" % n for n in range(5)]
    assert server.counters["requests_repeated"] >= 5


@pytest.mark.parametrize("seed", range(5))
async def test_sessions_and_blocks_come_through_an_ether_that_loses_doubles_delays_and_reorders(world, seed):
    ether = Ether(seed, loss=0.1, doubling=0.1, reordering=0.1, delay_s=0.5)
    gateway, server = await world.start([MemoryLink(ether, ["gateway:1"])], [MemoryLink(ether, ["server:1"])])
    server.answer = lambda payload: payload[::-1]
    await gateway.endpoint.connect("cpns-server", "memory:server:1")
    message = b"\xa0" + random.Random(seed).randbytes(5000)
    assert await gateway.ask("cpns-server", message, timeout_s=600) == message[::-1]
    assert [payload for _, payload in server.got] == [message]


# Several links at one endpoint


async def test_an_endpoint_on_two_links_answers_on_the_one_that_it_was_asked_on(world, tmp_path):
    ether = Ether()
    lamp = Party(tmp_path, "lamp", "pne")
    gateway, server = await world.start([UdpLink([LOOPBACK]), MemoryLink(ether, ["gateway:1"])], [UdpLink([LOOPBACK])])
    await lamp.start(links=[MemoryLink(ether, ["lamp:1"])])
    try:
        lamp.knows(gateway)
        gateway.knows(lamp)
        assert [place.partition(":")[0] for place in gateway.endpoint.places] == ["udp", "memory"]
        await gateway.endpoint.connect("cpns-server", server.place)
        await lamp.endpoint.connect("home-gw", "memory:gateway:1")
        assert await gateway.ask("cpns-server", b"\xa0") == await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
        assert await gateway.ask("lamp", b"\xa0key") == await server.ask("home-gw", b"\xa0key") == b"\xa1\xa0key"
        assert gateway.endpoint.last_heard("lamp").place == "memory:lamp:1"
        assert gateway.endpoint.last_heard("cpns-server").place == server.place
    finally:
        await lamp.stop()


async def test_a_session_that_is_heard_on_another_link_goes_on_there(world):
    ether = Ether()
    gateway, server = await world.start(
        [UdpLink([LOOPBACK]), MemoryLink(ether, ["gateway:1"])], [UdpLink([LOOPBACK]), MemoryLink(ether, ["server:1"])]
    )
    over_udp, over_memory = server.endpoint.places
    await gateway.endpoint.connect("cpns-server", over_udp)
    await gateway.ask("cpns-server", b"\xa0")
    assert await server.ask("home-gw", b"\xa0") == b"\xa1\xa0"
    assert server.endpoint.last_heard("home-gw").place == gateway.endpoint.places[0]
    await gateway.endpoint.connect("cpns-server", over_memory)  # the session is there: only the place is new
    await gateway.ask("cpns-server", b"\xa0")
    assert server.endpoint.last_heard("home-gw").place == "memory:gateway:1"
    unheard = gateway.counters["datagrams_received"]
    assert await server.ask("home-gw", b"\xa0") == b"\xa1\xa0"
    assert gateway.counters["datagrams_received"] > unheard
    assert gateway.counters["handshakes_done"] == 1


async def test_a_request_that_was_held_back_does_not_move_the_session_to_who_sends_it(world):
    ether, held = Ether(), []
    gateway, server = await world.start([MemoryLink(ether, ["gateway:1"])], [MemoryLink(ether, ["server:1"])])
    link = gateway.endpoint._exchanges.links._links[0]
    await gateway.endpoint.connect("cpns-server", "memory:server:1")
    await gateway.ask("cpns-server", b"\xa0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "send", lambda address, datagram: held.append(datagram))
        with pytest.raises(PeerUnreachable):
            await gateway.ask("cpns-server", b"\xa0held", timeout_s=0.5)
    await gateway.ask("cpns-server", b"\xa0later")
    thief = MemoryLink(ether, ["thief:1"])
    await thief.open(lambda datagram, address: None)
    thief.send(await thief.find("memory:server:1"), held[0])
    await until(lambda: len(server.got) == 3)
    assert server.got[-1][1] == b"\xa0held", "it is a request like any other"
    assert server.endpoint.last_heard("home-gw").place == "memory:gateway:1"
    assert await server.ask("home-gw", b"\xa0key") == b"\xa1\xa0key"
    await thief.close()


async def test_a_link_that_cannot_be_closed_keeps_no_other_link_and_no_session(tmp_path, caplog):
    class Torn(MemoryLink):
        async def close(self):
            raise OSError("the bus is gone")

    ether, gateway = Ether(), Party(tmp_path, "home-gw", "gateway")
    await gateway.start(links=[Torn(Ether(), ["gateway:1"]), MemoryLink(ether, ["gateway:1"])])
    await gateway.stop()
    assert "the bus is gone" in caplog.text
    await gateway.start(links=[MemoryLink(ether, ["gateway:1"])])  # neither its place nor its sessions are in use
    await gateway.stop()


async def test_a_place_on_a_link_that_this_end_has_not_is_out_of_reach(world):
    gateway, _ = await world.start([MemoryLink(Ether(), ["gateway:1"])], [UdpLink([LOOPBACK])])
    with pytest.raises(PeerUnreachable, match="no link of this end leads to udp:"):
        await gateway.endpoint.connect("cpns-server", world.server.place)


async def test_what_a_link_cannot_carry_is_counted_and_lost(world):
    ether = Ether()
    small = MemoryLink(ether, ["gateway:1"], datagram_max=128)
    gateway, _ = await world.start([small], [MemoryLink(ether, ["server:1"])])
    with pytest.raises(PeerUnreachable):
        await gateway.endpoint.connect("cpns-server", "memory:server:2")  # nobody is there
    assert gateway.counters["datagrams_unsent"] == 0
    small.datagram_max = 20
    with pytest.raises(PeerUnreachable):
        await gateway.endpoint.connect("cpns-server", "memory:server:1")
    assert gateway.counters["datagrams_unsent"] > 0
