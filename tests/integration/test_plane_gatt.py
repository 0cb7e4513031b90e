"""The message plane over GATT where it differs from other links: handshakes of strangers, and boards that move."""

import asyncio
import contextlib
import itertools
import random

import pytest

from message_plane import tuning
from message_plane.credentials import ROLE_PNE
from message_plane.edhoc import Initiator
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from message_plane.links.gatt import GattLink
from message_plane.links.memory import Ether, MemoryLink
from tests.integration.plane_world import Party
from tests.integration.scripted_carrier import PeripheralLink, Room, RoomLink
from tests.integration.test_plane_hostile import edhoc_request
from tests.waiting import PATIENCE_S, until

GATEWAY, LAMP = "F0:00:00:00:00:01", "F0:00:00:00:00:02"


class Attacker:
    """A stranger with a Bluetooth address, who asks the gateway for connections and sends it what it likes."""

    def __init__(self, room, address):
        self.link = PeripheralLink(room, address, GATEWAY)
        self.answers = []

    async def start(self):
        await self.link.open(lambda datagram, address: self.answers.append(datagram))

    async def send(self, datagram):
        self.link.send(await self.link.find(f"gatt:{GATEWAY}"), datagram)


@contextlib.asynccontextmanager
async def home(folder, strangers=0):
    """A gateway with three connections, a lamp, and strangers, all with a radio in one room."""
    room = Room(connect_s=0.4)
    gateway, lamp = Party(folder, "home-gw", "gateway"), Party(folder, "lamp", "pne")
    attackers = [Attacker(room, f"E0:00:00:00:{number // 256:02X}:{number % 256:02X}") for number in range(strangers)]
    await gateway.start(links=[RoomLink(room, GATEWAY, connections_max=3)])
    await lamp.start(links=[PeripheralLink(room, LAMP, GATEWAY)])
    gateway.knows(lamp)
    lamp.knows(gateway)
    try:
        for attacker in attackers:
            await attacker.start()
        yield room, gateway, lamp, attackers
    finally:
        for attacker in attackers:
            await attacker.link.close()
        await lamp.stop()
        await gateway.stop()


def message_1(folder, gateway):
    stranger = OwnIdentity.create(folder / "stranger.key", "stranger", ROLE_PNE)
    return b"\xf5" + Initiator(stranger, gateway.credential, b"\x01").message_1


async def attack(attackers, datagram_of):
    """Each attacker asks for a connection and sends four datagrams a second, without end."""
    for number in range(100_000):
        for attacker in attackers:
            await attacker.send(datagram_of(number % 60_000))
        await asyncio.sleep(0.25)


async def connected(party, place, within_s):
    """Try to make a session, as a board does: after a failure it tries again."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await party.endpoint.connect("home-gw", place)
                return await party.ask("home-gw", b"\xa0")
            except PlaneError:
                await asyncio.sleep(random.uniform(1, 5))


@pytest.mark.req("SEC-21", "SEC-35")
@pytest.mark.parametrize("octets", ["message_1", "library"])
async def test_strangers_that_flood_with_handshakes_keep_no_new_board_out(tmp_path, octets):
    """Handshakes are limited by connection, so that nobody uses up what others have."""
    async with home(tmp_path, strangers=4) as (_, gateway, lamp, attackers):
        good = message_1(tmp_path, gateway)
        broken = good[:3] + b"\x58\x20" + bytes(32) + good[-1:]  # no point of the curve
        of = good if octets == "message_1" else broken
        flood = asyncio.create_task(attack(attackers, lambda number: edhoc_request(of, number)))
        await asyncio.sleep(30)
        assert await connected(lamp, f"gatt:{GATEWAY}", 600) == b"\xa1\xa0"
        assert gateway.counters["handshakes_started"] <= 600 * tuning.HANDSHAKES_PER_ADDRESS[0] * 4
        # and once it is known, it is served at once
        for _ in range(5):
            await asyncio.sleep(40)  # its connection ends for want of use
            async with asyncio.timeout(10):
                assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
        flood.cancel()


async def test_other_links_go_on_whatever_the_radio_does(tmp_path):
    class Broken:
        """A carrier that fails in another way each time."""

        def __init__(self):
            self.faults = itertools.cycle([OSError("no"), RuntimeError("a fault"), None])

        async def connect(self, address, received, lost):
            fault = next(self.faults)
            if fault is not None:
                raise fault
            await asyncio.Event().wait()

    ether, broken = Ether(), GattLink(Broken(), connections_max=3)
    gateway, lamp = Party(tmp_path, "home-gw", "gateway"), Party(tmp_path, "lamp", "pne")
    await gateway.start(links=[MemoryLink(ether, ["gateway:1"]), broken])
    await lamp.start(links=[MemoryLink(ether, ["lamp:1"])])
    try:
        gateway.knows(lamp)
        lamp.knows(gateway)
        await lamp.endpoint.connect("home-gw", "memory:gateway:1")
        for number in range(200):
            broken.advertised(f"E0:00:00:00:00:{number % 100:02X}", True)
            assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
            assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
            await asyncio.sleep(0.1)
        assert broken.counters["gatt_not_connected"]
    finally:
        await lamp.stop()
        await gateway.stop()


@pytest.mark.req("SEC-21")
async def test_what_is_wrong_on_one_connection_is_punished_on_that_one_only(tmp_path):
    async with home(tmp_path, strangers=1) as (_, gateway, lamp, (attacker,)):
        guard = gateway.endpoint._reception._guard
        await attacker.send(edhoc_request(message_1(tmp_path, gateway), 1))
        await until(lambda: attacker.answers)
        (talk,) = gateway.endpoint._exchanges.links._links[0]._talks.values()
        guard.punish(talk.address, asyncio.get_running_loop().time())
        attacker.answers.clear()
        await attacker.send(edhoc_request(message_1(tmp_path / "..", gateway), 2))
        await until(lambda: attacker.answers)
        assert attacker.answers[0][1] == 0x9D, "4.29"
        assert await connected(lamp, f"gatt:{GATEWAY}", 30) == b"\xa1\xa0"


async def test_many_new_boards_take_turns_and_none_keeps_its_place_once_it_is_known(tmp_path):
    room, gateway = Room(connect_s=0.4), Party(tmp_path, "home-gw", "gateway")
    boards = [Party(tmp_path, f"lamp.{number}", "pne") for number in range(9)]
    await gateway.start(links=[RoomLink(room, GATEWAY, connections_max=3)])
    try:
        for number, board in enumerate(boards):
            await board.start(links=[PeripheralLink(room, f"F0:00:00:00:01:{number:02X}", GATEWAY)])
            gateway.knows(board)
            board.knows(gateway)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(board.endpoint.connect("home-gw", f"gatt:{GATEWAY}") for board in boards))
        assert asyncio.get_running_loop().time() - began < tuning.GATT_STRANGER_S, "they say nothing after a handshake"
        assert gateway.counters["handshakes_done"] == 9
    finally:
        for board in boards:
            await board.stop()
        await gateway.stop()


@pytest.mark.req("SEC-27")
async def test_a_session_follows_its_board_to_another_address_and_to_another_radio(tmp_path):
    room, ether = Room(connect_s=0.4), Ether()
    gateway, lamp = Party(tmp_path, "home-gw", "gateway"), Party(tmp_path, "lamp", "pne")
    await gateway.start(links=[MemoryLink(ether, ["gateway:1"]), RoomLink(room, GATEWAY)])
    await lamp.start(links=[MemoryLink(ether, ["lamp:1"])])
    try:
        gateway.knows(lamp)
        lamp.knows(gateway)
        await lamp.endpoint.connect("home-gw", "memory:gateway:1")
        await lamp.ask("home-gw", b"\xa0")
        for address in (LAMP, "F0:00:00:00:00:03"):
            await lamp.stop()
            await lamp.start(links=[PeripheralLink(room, address, GATEWAY)])
            await lamp.endpoint.connect("home-gw", f"gatt:{GATEWAY}")
            await lamp.ask("home-gw", b"\xa0")
            assert gateway.endpoint.last_heard("lamp").place == f"gatt:{address}"
            assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
        assert gateway.counters["handshakes_done"] == 1
    finally:
        await lamp.stop()
        await gateway.stop()


async def test_a_request_to_a_board_that_is_not_there_fails_in_its_time_and_others_go_on(tmp_path):
    async with home(tmp_path) as (room, gateway, lamp, _):
        assert await connected(lamp, f"gatt:{GATEWAY}", 30) == b"\xa1\xa0"
        await lamp.stop()
        before = asyncio.get_running_loop().time()
        with pytest.raises(PlaneError, match="no answer within 10 s"):
            await gateway.ask("lamp", b"\xa0key", timeout_s=10)
        assert asyncio.get_running_loop().time() - before < 11
        await lamp.start(links=[PeripheralLink(room, LAMP, GATEWAY)])
        async with asyncio.timeout(PATIENCE_S):
            await lamp.endpoint.connect("home-gw", f"gatt:{GATEWAY}")
            assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
            assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
