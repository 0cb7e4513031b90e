"""Boards on the virtual air: the program of a board in the VM, and a central of Bumble (docs/protocol.md, "GATT")."""

import asyncio

import pytest

from gateway_agent.radios.virtual_air.air import Ear, VirtualAir
from gateway_agent.radios.virtual_air.controller import AirController
from keycast.provisioning.board import Trust, new_board
from keycast.virtual_board.board import RESET_CODE, BluetoothAir, VirtualBoard
from keycast.virtual_board.loopback import free_numbers
from message_plane import credentials
from tests.integration.virtual_air_world import ADVERT, FROM_BOARD, SERVICE, TO_BOARD, air_world
from tests.waiting import until

POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
FRAME = bytes([27, 255, 255, 255, *range(24)])
ECHO = f"""
import asyncio, bluetooth
flag, frame, events, counts = asyncio.ThreadSafeFlag(), bytearray(31), [None] * 16, bytearray(2)
def on(event, data):
    if event == 5:
        if frame[0]:
            return
        for at in range(len(data[4])):
            frame[at] = data[4][at]
    at = 2 * (counts[0] % 8)
    events[at] = event
    events[at + 1] = ble.gatts_read(data[1]) if event == 3 else data[1] if event == 21 else data[0]
    counts[0] += 1
    flag.set()
ble = bluetooth.BLE()
ble.active(True)
ble.irq(on)
ble.config(mtu=247)
uuids = [bluetooth.UUID(text) for text in ("{SERVICE}", "{TO_BOARD}", "{FROM_BOARD}")]
((to_board, from_board),) = ble.gatts_register_services(((uuids[0], ((uuids[1], 12), (uuids[2], 16))),))
ble.gatts_set_buffer(to_board, 247)
ble.gap_scan(0, 100000, 100000)
ble.gap_advertise(100000, {ADVERT!r})
async def main():
    connection = 0
    while True:
        await flag.wait()
        while counts[0] > counts[1]:
            at = 2 * (counts[1] % 8)
            event, value = events[at], events[at + 1]
            counts[1] += 1
            if event == 3:
                ble.gatts_notify(connection, from_board, value)
            elif event == 5:
                print("heard", bytes(frame[:28]).hex())
            else:
                print("event", event, value)
                connection = value if event == 1 else connection
asyncio.run(main())
"""


@pytest.mark.real_time
async def test_a_board_hears_is_heard_and_exchanges_values():
    async with air_world() as world:
        world.gateway.advertise(3, 0.02, FRAME)
        program = await world.program(ECHO)
        try:
            assert await program.line() == f"heard {FRAME.hex()}"
            peer = await world.connect(program.address)
            assert await program.line() == "event 1 1"
            assert await program.line() == "event 21 247"
            answers = asyncio.Queue()
            (to_board,) = peer.get_characteristics_by_uuid(TO_BOARD)
            (from_board,) = peer.get_characteristics_by_uuid(FROM_BOARD)
            await from_board.subscribe(answers.put_nowait)
            for length in (1, 100, 244):
                value = bytes(range(256))[-length:]
                await to_board.write_value(value, with_response=True)
                assert await asyncio.wait_for(answers.get(), 30) == value
            await peer.connection.disconnect()
            assert await program.line() == "event 2 1"
        finally:
            await program.kill()


ERRORS = f"""
import bluetooth
ble = bluetooth.BLE()
def told(function, *arguments, **values):
    try:
        print(function(*arguments, **values))
    except OSError as error:
        print(error.errno)
told(ble.gap_scan, 0, 100000, 100000)
ble.active(True)
uuid = bluetooth.UUID("{SERVICE}")
((handle,),) = ble.gatts_register_services(((uuid, ((uuid, 16),)),))
told(ble.gap_advertise, 100000, bytes(32))
told(ble.gap_disconnect, 1)
told(ble.gatts_notify, 1, handle, b"1")
told(ble.gatts_read, handle + 1)
told(ble.gap_scan, 0, 100000, 100000)
told(ble.gap_scan, 0, 100000, 100000)
told(ble.gatts_register_services, ())
told(ble.config, mtu=600)
ble.irq(lambda event, data: print("event", event))
told(ble.gap_scan, None)
told(ble.gap_scan, None)
print(ble.config("mac")[1].hex(), ble is bluetooth.BLE(), ble.active(), ble.active(False))
"""


@pytest.mark.real_time
async def test_errors_are_those_of_the_esp32():
    async with air_world() as world:
        program = await world.program(ERRORS)
        output, _ = await program.process.communicate()
        not_active, too_long, not_there, no_value, twice, busy, invalid = 19, -4, -128, b"", 120, 16, 22
        assert output.decode().split("\n")[:-1] == [
            *map(str, (not_active, too_long, not_there, not_there, no_value, None, twice, busy, invalid)),
            *("event 6", "None", "None", "020000000003 True True False"),
        ]


ALLOCATES = """
import bluetooth, time
calls = [0]
def on(event, data):
    calls[0] += 1
    bytes(data[4])
ble = bluetooth.BLE()
ble.active(True)
ble.irq(on)
ble.gap_scan(0, 100000, 100000)
while not calls[0]:
    time.sleep_ms(10)
ble.irq(None)
print(calls[0])
"""


@pytest.mark.real_time
async def test_a_handler_that_takes_heap_fails_and_is_called_no_more():
    async with air_world() as world:
        world.gateway.advertise(3, 0.02, FRAME)
        program = await world.program(ALLOCATES)
        output, _ = await program.process.communicate()
        assert b"MemoryError: memory allocation failed, heap is locked" in output
        assert output.endswith(b"\n1\n")


COMPUTES = """
import bluetooth, time
calls = [0]
def on(event, data):
    calls[0] += 1
ble = bluetooth.BLE()
ble.active(True)
ble.irq(on)
ble.gap_scan(0, 100000, 100000)
seen = 0
while seen < 20:  # a computation that never waits
    if calls[0] > seen:
        seen += 1
print("done")
"""


@pytest.mark.real_time
async def test_adverts_come_while_the_board_computes():
    async with air_world() as world:
        world.gateway.advertise(3, 0.02, FRAME)
        program = await world.program(COMPUTES)
        assert await program.line() == "done"
        await program.kill()


class _Listener(AirController):
    """A controller that counts what it hears."""

    count = 0

    def report(self, advert):
        self.count += 1


async def _heard(seconds, *ears, interval_s=0.02, window=0x30):
    """Return how many adverts were sent in so many seconds, and how many each of these listeners heard."""
    air = VirtualAir(7)
    sender = AirController(air, "02:00:00:00:00:01")
    listeners = [_Listener(air, f"02:00:00:00:01:{at:02X}", ear=ear) for at, ear in enumerate(ears)]
    for one in listeners:
        one.le_scan_interval, one.le_scan_window, one.le_scan_enable = 0x30, window, True
    sender.advertise(3, interval_s, FRAME)
    await asyncio.sleep(seconds)
    air.remove_controller(sender)
    return air.adverts, [one.count for one in listeners]


async def test_an_advert_is_sent_at_its_interval_with_a_pause_of_up_to_10_ms():
    sent, (heard,) = await _heard(100, Ear())
    assert heard == sent
    assert 100 / 0.0255 < sent < 100 / 0.0245
    sent, _ = await _heard(100, Ear(), interval_s=0.001)
    assert 100 / 0.0255 < sent < 100 / 0.0245, "no controller has an interval below 20 ms"


async def test_each_listener_loses_its_own_share():
    sent, (all_of_them, most, half) = await _heard(100, Ear(), Ear(loss=0.3), Ear(loss=0.5))
    assert all_of_them == sent
    assert 0.67 < most / sent < 0.73
    assert 0.47 < half / sent < 0.53


async def test_a_listener_hears_only_in_its_windows():
    sent, (half, all_of_them) = await _heard(100, Ear(0, 0.0512, 0.1024), Ear())
    assert all_of_them == sent and 0.45 < half / sent < 0.55
    sent, (third,) = await _heard(100, Ear(), window=0x10)
    assert 0.28 < third / sent < 0.38


async def test_an_advertising_set_ends_after_its_time_and_the_host_is_told():
    air = VirtualAir(7)
    controller = AirController(air, "02:00:00:00:00:01", extended=True)
    device = controller.device()
    await device.power_on()
    begun = await device.create_advertising_set(advertising_data=FRAME, auto_start=False)
    ends = []
    begun.on("termination", lambda status: ends.append((asyncio.get_running_loop().time(), status)))
    at = asyncio.get_running_loop().time()
    await begun.start(duration=30.0)
    await asyncio.sleep(60)
    ((end, status),) = ends
    assert 30 <= end - at < 32 and status == 0x3C
    sent = air.adverts
    await asyncio.sleep(10)
    assert air.adverts == sent > 0


async def test_one_pair_of_controllers_may_have_a_loss_of_its_own():
    air = VirtualAir(7)
    sender, other = AirController(air, "02:00:00:00:00:01"), AirController(air, "02:00:00:00:00:02")
    one, two = _Listener(air, "02:00:00:00:01:01"), _Listener(air, "02:00:00:00:01:02")
    for listener in (one, two):
        listener.le_scan_enable = True
    air.set_loss(sender.name, one.name, 1.0)
    sender.advertise(3, 0.02, FRAME)
    await asyncio.sleep(10)
    air.remove_controller(sender)
    assert one.count == 0 and two.count == air.adverts
    other.advertise(3, 0.02, FRAME)
    await asyncio.sleep(1)
    assert one.count > 0


@pytest.mark.real_time
async def test_a_virtual_board_hears_as_it_is_told(tmp_path):
    async with air_world() as world:
        one = VirtualBoard.create(tmp_path / "board", free_numbers(1), b"", wifi=False, company_id=0xFFFF)
        air = BluetoothAir(world.boards.path, 0.25, 51_200, 102_400)
        await one.start(air=air, up=False)
        assert await one.ended() == RESET_CODE  # it has made its secret
        await one.start(air=air, up=False)
        try:
            await until(lambda: [each for each in world.air.controllers if each.le_scan_enable])
            (controller,) = [each for each in world.air.controllers if each.le_scan_enable]
            assert controller.name == one.bluetooth_address
            assert controller.ear == Ear(pytest.approx(0.25, abs=1e-4), 0.0512, 0.1024)
        finally:
            await one.kill()
        await until(lambda: controller not in world.air.controllers)


@pytest.mark.real_time
@pytest.mark.parametrize("wifi", [True, False])
async def test_a_board_whose_bluetooth_does_not_work_says_so_and_goes_on_with_wifi(tmp_path, wifi):
    record, _ = new_board("lamp", Trust(credentials.of("gw.home", "gateway", POINT), bytes(64), 1, "home"))
    one = VirtualBoard.create(tmp_path / "board", free_numbers(1), record, wifi=wifi, company_id=0xFFFF)
    await one.start(up=False)
    try:
        told = [f"keycast: {'no-gateway' if wifi else 'no-bluetooth'} ", "no Bluetooth: OSError(19,)"]
        await until(lambda: all(any(text in str(event) for event in one.events) for text in told))
    finally:
        await one.kill()
