"""A board's UDP: its sockets, where it sends from, what it counts, and how it comes back from an empty datagram."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from cpns import numbers
from device_agent.links import udp

pytestmark = pytest.mark.real_time  # sockets

HOST, EVERYBODY = "127.0.0.1", "127.255.255.255"


@pytest.fixture
def opened():
    """Make links whose sockets are closed at the end."""
    links = []

    def make(**places):
        links.append(udp.UdpLink(HOST, EVERYBODY, **{"port": 0, "broadcast_port": 0, **places}))
        return links[-1]

    yield make
    for link in links:
        link.close()


@pytest.fixture
def peer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((HOST, 0))
        yield sock


def places(link):
    return [sock.getsockname() for sock in link._sockets]


async def soon(awaited):
    return await asyncio.wait_for(awaited, 10)


async def test_datagrams_of_single_peers_and_broadcasts_do_not_mix(opened, peer):
    link = opened(hear=HOST)
    unicast, broadcast, _ = places(link)
    peer.sendto(b"to all", broadcast)
    peer.sendto(b"to one", unicast)
    assert await soon(link.recv()) == (peer.getsockname(), b"to one")
    assert await soon(link.hear(None)) == b"to all"
    assert (link.cut, link.dropped, link.empty) == (0, 0, 0)


async def test_each_plane_sends_from_its_own_port(opened, peer):
    link = opened(hear=HOST)
    link._everybody, link._broadcast_port = peer.getsockname()
    link.send(peer.getsockname(), b"coap")
    link.air(b"broadcast")
    seen = dict([await soon(asyncio.get_running_loop().sock_recvfrom(peer, 100)) for _ in "12"])
    assert seen == {b"coap": places(link)[0], b"broadcast": places(link)[2]}


async def test_a_question_to_all_goes_from_the_port_of_coap_to_that_port_of_the_network(opened):
    link = opened(hear=HOST)
    sent = []
    link._sockets[0].close()
    link._sockets[0] = SimpleNamespace(sendto=lambda *what: sent.append(what), close=lambda: None)
    link.ask_all(b"question")
    assert sent == [(b"question", (EVERYBODY, numbers.PORT_COAP))]


def test_what_sends_to_all_may_and_processes_of_one_machine_share_the_broadcast_port(opened):
    """Two boards of one machine; the port of CoAP belongs to one process."""
    link = opened(hear=HOST)
    may = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) for sock in link._sockets]
    shared = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for sock in link._sockets]
    assert all(may) and [bool(each) for each in shared] == [False, True, True]


async def test_one_socket_hears_and_sends_broadcasts_where_it_is_bound_to_no_address(opened, peer):
    link = opened(hear="0.0.0.0")
    link._everybody, link._broadcast_port = peer.getsockname()
    link.air(b"broadcast")
    _, (_, port) = await soon(asyncio.get_running_loop().sock_recvfrom(peer, 100))
    assert len(link._sockets) == 2 and port == places(link)[1][1]


@pytest.mark.parametrize("which", [0, 1])
async def test_a_socket_that_got_an_empty_datagram_is_opened_anew_and_hears_on(opened, peer, which):
    """Also while the system has no memory for another socket: then what is sent is counted as dropped."""
    link = opened(hear=HOST)
    before = link._sockets[which]
    hears = (link.recv, lambda: link.hear(None))[which]
    peer.sendto(b"", before.getsockname())
    waits = asyncio.create_task(hears())
    while not link.empty or link._sockets[which] in (None, before):
        await asyncio.sleep(0)
    assert before.fileno() == -1
    peer.sendto(b"after it", link._sockets[which].getsockname())
    assert b"after it" in (await soon(waits), None)[0]
    assert (link.cut, link.dropped, link.empty) == (0, 0, 1)


async def test_what_cannot_be_sent_is_counted(opened, peer, monkeypatch):
    link = opened(hear=HOST)
    link._everybody, link._broadcast_port = peer.getsockname()
    link.send(peer.getsockname(), bytes(1 << 17))  # longer than any datagram
    assert link.dropped == 1
    monkeypatch.setattr(udp, "_bound", no_memory)
    peer.sendto(b"", places(link)[0])
    with pytest.raises(OSError, match="no memory"):
        await soon(link.recv())
    link.send(peer.getsockname(), b"no socket")
    assert (link.dropped, link.empty) == (2, 1)
    link.air(b"another socket")
    assert link.dropped == 2


def no_memory(*place):
    raise OSError("no memory")


async def test_a_datagram_that_found_no_room_is_counted_and_the_next_one_is_heard(opened, monkeypatch):
    received = [(None, None), (None, None), (b"short", ("192.168.1.2", 5683))]

    async def receive(sock):
        return received.pop(0)

    monkeypatch.setattr(udp, "_receive", receive)
    link = opened(hear=HOST)
    before = list(link._sockets)
    assert await soon(link.recv()) == (("192.168.1.2", 5683), b"short")
    assert (link.cut, link.dropped, link.empty) == (2, 0, 0) and link._sockets == before


async def test_a_link_of_which_one_place_is_taken_leaves_no_socket_open(opened, peer, monkeypatch):
    made, bound = [], udp._bound

    def recorded(*place):
        made.append(bound(*place))
        return made[-1]

    monkeypatch.setattr(udp, "_bound", recorded)
    taken = peer.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        opened(hear=HOST, broadcast_port=taken)
    assert len(made) == 1 and made[0].fileno() == -1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.168.1.10", ("192.168.1.10", 5683)),
        ("192.168.1.10:1", ("192.168.1.10", 1)),
        ("0.255.0.255:65535", ("0.255.0.255", 65535)),
    ],
)
def test_an_address_is_an_ipv4_address_with_or_without_port(text, address):
    assert udp.UdpLink.address(None, text) == address


@pytest.mark.parametrize(
    "text", ["", "gatt", "1.2.3", "1.2.3.4.5", "1.2.3.256", "-1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1"]
)
def test_all_else_is_no_address(text):
    with pytest.raises(ValueError, match=r"not an IPv4 address|invalid literal"):
        udp.UdpLink.address(None, text)


@pytest.mark.parametrize(
    ("host", "mask", "everybody"),
    [
        ("192.168.1.10", "255.255.255.0", "192.168.1.255"),
        ("10.1.2.3", "255.255.240.0", "10.1.15.255"),
        ("172.16.5.6", "255.255.255.255", "172.16.5.6"),
    ],
)
def test_the_directed_broadcast_address_of_a_network(host, mask, everybody):
    assert udp.directed_broadcast(host, mask) == everybody
