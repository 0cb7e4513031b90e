"""The contract of a link, tested on each kind; the losses of the memory link; the table of links."""

import asyncio
import contextlib
import subprocess
import sys

import pytest
from pydantic import ValidationError

from message_plane.errors import CannotListen, PeerUnreachable, PortInUse
from message_plane.links import by_scheme
from message_plane.links.gatt import GattLink
from message_plane.links.memory import Ether, MemoryLink
from message_plane.links.udp import UdpLink, host_and_port, place_of
from tests.integration import plane_world
from tests.integration.scripted_carrier import Room, RoomLink

ETHER = Ether()
ROOM = Room()
KINDS = {
    "udp": lambda number=0: UdpLink([("127.0.0.1", number)]),
    "memory": lambda number=0: MemoryLink(ETHER, [f"127.0.0.1:{number}"]),
    "gatt": lambda number=0: RoomLink(ROOM, ROOM.address("127.0.0.1", number)),
}


@pytest.fixture(params=KINDS)
def made(request):
    return KINDS[request.param]


class End:
    """An open link, and what came to it."""

    def __init__(self, link):
        self.link = link
        self.received = asyncio.Queue()

    async def take(self):
        return await asyncio.wait_for(self.received.get(), 10)


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


async def test_a_datagram_goes_to_a_place_and_the_answer_to_its_address(made):
    async with ends(made(), made()) as (one, other):
        (place,) = other.link.places
        assert place.startswith(f"{other.link.scheme}:")
        one.link.send(await one.link.find(place), b"question")
        datagram, address = await other.take()
        assert datagram == b"question" and address.link is other.link and not address.to_group
        assert [address.place] == one.link.places
        other.link.send(address, b"answer")
        datagram, source = await one.take()
        assert datagram == b"answer" and source.place == place


async def test_addresses_of_one_peer_are_equal_and_those_of_another_are_not(made):
    async with ends(made(), made(), made()) as (one, other, third):
        (place,), (elsewhere,) = other.link.places, third.link.places
        found = await one.link.find(place)
        other.link.send(await other.link.find(one.link.places[0]), b"hello")
        _, heard = await one.take()
        assert heard == found and hash(heard) == hash(found) and heard.place == place
        assert await one.link.find(elsewhere) != found
        assert await third.link.find(place) != found, "it is another way there"
        if one.link.scheme == "gatt":
            other.link.send(await other.link.find(one.link.places[0]), b"more")
            assert (await one.take())[1].counted_as == heard.counted_as != found.counted_as, "it is one connection"
        else:
            assert found.counted_as == (await one.link.find(elsewhere)).counted_as, "they are ports of one host"
        assert found.echo_proves == (one.link.scheme != "gatt")


async def test_a_datagram_as_long_as_the_link_allows_arrives_whole(made):
    async with ends(made(), made()) as (one, other):
        address = await one.link.find(other.link.places[0])
        one.link.send(address, bytes(one.link.datagram_max))
        assert (await other.take())[0] == bytes(one.link.datagram_max)
        one.link.send(address, bytes(one.link.datagram_max + 100))
        if one.link.scheme == "gatt":
            one.link.send(address, b"next")
            assert (await other.take())[0] == b"next" and other.link.counters["gatt_fragments_dropped"] == 2
        else:
            assert len((await other.take())[0]) == one.link.datagram_max + 1


async def test_nothing_is_sent_or_received_once_it_is_closed_and_closing_twice_is_once(made):
    async with ends(made(), made()) as (one, other):
        address = await one.link.find(other.link.places[0])
        await one.link.close()
        await one.link.close()
        assert one.link.places == []
        with pytest.raises(OSError):
            one.link.send(address, b"late")
    await made().close()  # it was never open


async def test_what_is_listened_on_already_cannot_be_had(made):
    async with ends(made()) as (one,):
        number = int(one.link.places[0].rpartition(":")[2])
        second = made(number)
        with pytest.raises(PortInUse):
            await second.open(lambda datagram, address: None)
        await second.close()


@pytest.mark.parametrize("place", ["post:the old mill", "", "udp:", "udp:host", "memory"])
async def test_what_is_no_place_of_the_link_is_out_of_reach(place):
    async with ends(UdpLink([("127.0.0.1", 0)])) as (one,):
        with pytest.raises(PeerUnreachable):
            await one.link.find(place)


@pytest.mark.parametrize("place", ["gatt:", "gatt:f0:00:00:00:00:01", "gatt:F0:00:00:00:00", "udp:127.0.0.1:5683"])
async def test_what_is_no_bluetooth_address_is_out_of_reach(place):
    async with ends(KINDS["gatt"]()) as (one,):
        with pytest.raises(PeerUnreachable):
            await one.link.find(place)


def test_the_tests_of_the_plane_run_on_each_kind_of_link():
    assert KINDS.keys() == plane_world.KINDS.keys() == by_scheme.LINKS.keys() | {GattLink.scheme}


# UDP


@pytest.mark.parametrize("host", ["192.168.1.10", "fe80::1%eth0", "cpns.example"])
def test_a_place_of_udp_names_host_and_port(host):
    assert host_and_port(place_of(host, 5683)) == (host, 5683)


def test_places_are_written_as_documented():
    assert place_of("192.168.1.10", 5683) == "udp:192.168.1.10:5683"
    assert place_of("fe80::1", 5683) == "udp:[fe80::1]:5683"
    for broken in ("192.168.1.10:5683", "udp:192.168.1.10", "udp::5683", "udp:[fe80::1]", "udp:host:port", "udp:h:1:2"):
        with pytest.raises(ValueError, match="is no place of UDP"):
            host_and_port(broken)


async def test_all_addresses_are_bound_or_none():
    async with ends(UdpLink([("127.0.0.1", 0)])) as (one,):
        taken = host_and_port(one.link.places[0])
        link = UdpLink([("127.0.0.2", 0), taken])
        with pytest.raises(PortInUse):
            await link.open(lambda datagram, address: None)
        assert link.places == []
    with pytest.raises(CannotListen):
        await UdpLink([("192.0.2.1", 5683)]).open(lambda datagram, address: None)


# Memory


async def what_arrives(ether, count=200):
    """The numbers of `count` datagrams in the order in which they arrive."""
    async with ends(MemoryLink(ether, ["a:1"]), MemoryLink(ether, ["b:1"])) as (one, other):
        address = await one.link.find("memory:b:1")
        for number in range(count):
            one.link.send(address, number.to_bytes(2, "big"))
        await asyncio.sleep(2)
        return [int.from_bytes(other.received.get_nowait()[0]) for _ in range(other.received.qsize())]


async def test_a_good_ether_carries_each_datagram_once_and_in_order():
    assert await what_arrives(Ether()) == list(range(200))


async def test_a_bad_ether_does_what_it_is_told_and_the_same_again_by_its_seed():
    lost = await what_arrives(Ether(1, loss=0.3))
    assert 100 < len(lost) < 180 and lost == sorted(set(lost))
    doubled = await what_arrives(Ether(1, doubling=0.3))
    assert 230 < len(doubled) < 290 and sorted(set(doubled)) == list(range(200))
    reordered = await what_arrives(Ether(1, reordering=0.3))
    assert reordered != sorted(reordered) and set(range(199)) <= set(reordered)
    delayed = await what_arrives(Ether(1, delay_s=1.0))
    assert delayed != sorted(delayed) and sorted(delayed) == list(range(200))
    for faults in ({"loss": 0.3}, {"reordering": 0.3}, {"delay_s": 1.0}):
        assert await what_arrives(Ether(1, **faults)) == await what_arrives(Ether(1, **faults))
        assert await what_arrives(Ether(1, **faults)) != await what_arrives(Ether(2, **faults))


# The table


@pytest.mark.parametrize("scheme", by_scheme.LINKS)
def test_each_kind_in_the_table_makes_links_of_its_scheme_from_its_section(scheme):
    (link,) = by_scheme.links_of({scheme: by_scheme.kind(scheme).SECTION()})
    assert link.scheme == scheme and link.datagram_max >= 128 and link.places == []


async def test_sections_that_name_one_ether_meet_in_it():
    section = by_scheme.kind("memory").SECTION
    sections = [section(listen=["a:1"], ether="one"), section(listen=["b:1"], ether="one"), section(ether="other")]
    links = [by_scheme.links_of({"memory": each})[0] for each in sections]
    async with ends(*links) as (one, other, third):
        one.link.send(await one.link.find("memory:b:1"), b"hello")
        assert (await other.take())[0] == b"hello"
        third.link.send(await third.link.find("memory:b:1"), b"hello")
        await asyncio.sleep(0)
        assert other.received.empty()


def test_a_section_of_udp_says_what_is_wrong_with_it():
    section = by_scheme.kind("udp").SECTION
    for wrong in ({"listen": ["0.0.0.0", "127.0.0.1"]}, {"listen": []}, {"listen": ["224.0.0.1"]}, {"port": 0}):
        with pytest.raises(ValidationError):
            section(**wrong)


def test_a_link_is_not_loaded_before_it_is_wanted():
    code = "import sys; from message_plane.links import by_scheme; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "message_plane.links.by_scheme" in run.stdout
    assert not {f"message_plane.links.{scheme}" for scheme in by_scheme.LINKS} & set(run.stdout.split())
