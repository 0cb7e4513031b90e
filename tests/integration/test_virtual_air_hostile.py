"""What boards, and what passes for boards, may do to the virtual air: it goes on for all others."""

import asyncio
import socket
import struct

import pytest

from gateway_agent.radios.virtual_air.air import AdvertPdu
from tests.integration.virtual_air_world import ADVERT, FROM_BOARD, SERVICE, TO_BOARD, air_world
from tests.waiting import until

pytestmark = pytest.mark.real_time

HELLO = b"H\x01" + bytes.fromhex("020000000077") + struct.pack("<HII", 0, 0, 0)
SERVICES = f"G{SERVICE}\n18 12 {TO_BOARD}\n20 16 {FROM_BOARD}".encode()
SCAN = struct.pack("<BIII", ord("S"), 100000, 100000, 0)
OFFER = struct.pack("<BIBB", ord("A"), 20000, 1, len(ADVERT)) + ADVERT


class Line:
    """The line of a board whose program is a test."""

    def __init__(self, world, *messages):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(world.boards.path))
        self.socket.setblocking(False)
        for message in messages:
            self.socket.send(message)

    def received(self):
        """Return all messages that have come, a b"" as the last one if it was cut off."""
        messages = []
        while not messages or messages[-1]:
            try:
                messages.append(self.socket.recv(2048))
            except BlockingIOError:
                break
            except ConnectionError:
                messages.append(b"")
        return messages


@pytest.fixture
def opened():
    """A function that returns the Line of a board, which is closed after the test."""
    lines = []

    def opened(*arguments):
        lines.append(Line(*arguments))
        return lines[-1]

    yield opened
    for line in lines:
        line.socket.close()


def kinds(messages):
    return [message[0] for message in messages if message]


MALFORMED = [
    [b"?"],
    [b"H\x02" + HELLO[2:]],
    [HELLO[:-1]],
    [HELLO + b"\0"],
    [b"\0" * 2000],
    [SCAN],
    [HELLO, b"?"],
    [HELLO, HELLO],
    [HELLO, b"S"],
    [HELLO, b"M"],
    [HELLO, b"A\0\0"],
    [HELLO, struct.pack("<BIBB", ord("A"), 1, 1, 31) + bytes(30)],
    [HELLO, struct.pack("<BIBB", ord("A"), 1, 1, 32) + bytes(32)],
    [HELLO, struct.pack("<BIBB", ord("A"), 1, 1, 0) + bytes(32)],
    [HELLO, b"G"],
    [HELLO, b"Gno uuid"],
    [HELLO, b"G\xff\xfe"],
    [HELLO, b"G18 12 " + TO_BOARD.encode()],
    [HELLO, f"G{SERVICE}\n18 x {TO_BOARD}".encode()],
    [HELLO, SERVICES, struct.pack("<BHH", ord("N"), 1, 99)],
    [HELLO, SERVICES, b"N\0"],
    [HELLO, SERVICES, b"D"],
    [HELLO, b"W"],
]


@pytest.mark.parametrize("messages", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_board_that_sends_what_it_must_not_is_cut_off(messages, opened):
    async with air_world() as world:
        good = opened(world, HELLO.replace(b"\x77", b"\x78"), SCAN)
        await until(lambda: world.boards.boards == 1)
        line = opened(world, *messages)
        await until(lambda: line.received()[-1:] == [b""])
        await until(lambda: world.boards.boards == 1)
        world.gateway.advertise(3, 0.02, b"x")
        await until(lambda: 5 in kinds(good.received()))


async def test_a_board_that_does_not_read_loses_adverts_and_no_memory(opened):
    async with air_world() as world:
        deaf, other = opened(world, HELLO, SCAN), opened(world, HELLO.replace(b"\x77", b"\x78"), SCAN)
        await until(lambda: world.boards.boards == 2)
        world.gateway.advertise(3, 0.02, bytes(31))
        await until(lambda: world.air.receptions > 10)
        world.gateway.le_legacy_advertiser.stop()
        count = 0
        for _ in range(2000):
            world.air.send_advertising_pdu(world.gateway, AdvertPdu(world.gateway.public_address, 3, bytes(31)))
            count += len(other.received())
        assert count > 1000
        assert len(deaf.received()) < 500
        assert world.boards.boards == 2


async def test_a_board_that_answers_no_write_is_cut_off_and_its_central_learns_it(opened):
    async with air_world() as world:
        line = opened(world, HELLO, SERVICES, OFFER)
        peer = await world.connect("02:00:00:00:00:77")
        (to_board,) = peer.get_characteristics_by_uuid(TO_BOARD)
        writing = asyncio.create_task(to_board.write_value(b"1", with_response=True))
        await until(lambda: 3 in kinds(line.received()))
        gone = asyncio.Event()
        peer.connection.on("disconnection", lambda *_: gone.set())
        for _ in range(200):  # commands, which wait for nothing
            await to_board.write_value(bytes(200), with_response=False)
        assert not writing.done()
        line.socket.close()
        await asyncio.wait_for(gone.wait(), 30)
        await asyncio.wait([writing])


async def test_a_value_of_513_octets_does_not_reach_a_board(opened):
    async with air_world() as world:
        line = opened(world, HELLO, struct.pack("<BH", ord("M"), 517), SERVICES, OFFER)
        peer = await world.connect("02:00:00:00:00:77")
        (to_board,) = peer.get_characteristics_by_uuid(TO_BOARD)
        with pytest.raises(Exception, match="INVALID_ATTRIBUTE_LENGTH"):
            await to_board.write_value(bytes(513), with_response=True)
        writing = asyncio.create_task(to_board.write_value(bytes(512), with_response=True))
        values = []
        await until(lambda: values.extend(line.received()) or 3 in kinds(values))
        (value,) = [each for each in values if each[0] == 3]
        assert value[5:] == bytes(512)
        line.socket.send(b"W")
        await writing


async def test_a_board_that_tells_its_values_when_it_joins_again_is_written_to_as_before(opened):
    async with air_world() as world:
        line = opened(world, HELLO, SERVICES, struct.pack("<BH", ord("V"), 18) + b"what was written last", OFFER)
        peer = await world.connect("02:00:00:00:00:77")
        (to_board,) = peer.get_characteristics_by_uuid(TO_BOARD)
        writing = asyncio.create_task(to_board.write_value(b"news", with_response=True))
        await until(lambda: 3 in kinds(line.received()))
        line.socket.send(b"W")
        await writing


async def test_a_central_that_connects_again_and_again_is_told_to_the_board_each_time(opened):
    async with air_world() as world:
        line, seen = opened(world, HELLO, SERVICES, OFFER), []
        for _ in range(10):
            peer = await world.connect("02:00:00:00:00:77")
            await peer.connection.disconnect()
            await until(lambda: seen.extend(line.received()) or kinds(seen)[-1:] == [2])
            line.socket.send(OFFER)
        assert kinds(seen).count(1) == kinds(seen).count(2) == 10


async def test_a_board_that_starts_again_takes_its_own_place(opened):
    async with air_world() as world:
        first = opened(world, HELLO, SCAN)
        await until(lambda: world.boards.boards == 1)
        second = opened(world, HELLO, SCAN)
        await until(lambda: first.received()[-1:] == [b""])
        world.gateway.advertise(3, 0.02, b"x")
        await until(lambda: 5 in kinds(second.received()))
        assert world.boards.boards == 1


async def test_there_is_one_air_at_a_place():
    async with air_world() as world:
        with pytest.raises(OSError, match="another program"):
            type(world.boards)(world.air, world.boards.path).open()
        left_behind = world.boards.path.with_name("other")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(left_behind))
        again = type(world.boards)(world.air, left_behind)
        again.open()
        await again.close()


COMES_BACK = f"""
import bluetooth, sys
ble = bluetooth.BLE()
ble.active(True)
def on(event, data):
    if event in (1, 2):
        print("event", event)
ble.irq(on)
ble.gatts_register_services(((bluetooth.UUID("{SERVICE}"), ((bluetooth.UUID("{FROM_BOARD}"), 16),)),))
while True:
    ble.gap_advertise(20000, {ADVERT!r})
    print("advertises")
    sys.stdin.readline()
"""


async def test_a_board_outlives_the_air_and_finds_the_next_one():
    async with air_world() as world:
        program = await world.program(COMES_BACK)
        try:
            assert await program.line() == "advertises"
            await world.connect(program.address)
            assert await program.line() == "event 1"
            await world.boards.close()
            assert await program.line() == "event 2"
            program.write("")
            assert await program.line() == "advertises"  # to nobody
            world.boards.open()
            program.write("")
            assert await program.line() == "advertises"
            await world.connect(program.address)
            assert await program.line() == "event 1"
        finally:
            await program.kill()


STALLED = f"""
import bluetooth, time
state = bytearray(1)
def on(event, data):
    if event == 1:
        state[0] = data[0]
ble = bluetooth.BLE()
ble.active(True)
ble.irq(on)
uuid = bluetooth.UUID
((handle,),) = ble.gatts_register_services(((uuid("{SERVICE}"), ((uuid("{FROM_BOARD}"), 16),)),))
ble.gap_advertise(20000, {ADVERT!r})
while not state[0]:
    time.sleep_ms(10)
sent = 0
try:
    while True:
        ble.gatts_notify(state[0], handle, b"1")
        sent += 1
        if sent > 1000:
            break
except OSError as error:
    print("no room", error.errno)
while True:
    try:
        ble.gatts_notify(state[0], handle, b"1")
        break
    except OSError:
        time.sleep_ms(10)
print("room")
time.sleep(60)
"""


async def test_notifications_that_a_central_does_not_acknowledge_fill_the_buffers_of_the_board():
    async with air_world() as world:
        program = await world.program(STALLED)
        try:
            await until(lambda: [each for each in world.air.controllers if each.name == program.address])
            (controller,) = [each for each in world.air.controllers if each.name == program.address]
            connecting = asyncio.create_task(world.connect(program.address))
            await until(lambda: controller.le_connections)
            controller.stall(True)
            assert await program.line() == "no room 12"
            controller.stall(False)
            assert await program.line() == "room"
            await connecting
        finally:
            await program.kill()
