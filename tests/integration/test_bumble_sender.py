"""The radio of a gateway on a controller of its own: on the virtual air, and on one behind a transport."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from bumble import hci

from gateway_agent.radios import ble_hci, bumble_controller
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_sender import NoSender
from gateway_agent.radios.bumble_controller import HostDevice, OwnController
from gateway_agent.radios.bumble_sender import BumbleSender
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.controller import AirController
from tests.integration.virtual_air_world import GATEWAY, InProcess, controllers_on_tcp
from tests.waiting import until


def payload(number):
    return bytes([27, 255, 255, 255]) + number.to_bytes(24, "big")


class Payloads:
    """What a sender takes: the next numbers, as long as there are any."""

    def __init__(self, count):
        self.left, self.taken = count, 0

    def take(self):
        if not self.left:
            return None
        self.left -= 1
        self.taken += 1
        return payload(self.taken)


@asynccontextmanager
async def on_tcp(extended=True):
    """Yield a sender on a controller behind TCP, the air that the controller is on, and all controllers there were."""
    air = VirtualAir(1)
    async with controllers_on_tcp(air, extended) as (adapter, all_of_them):
        sender = ble_hci.open_sender(BleSection(sender="hci", adapter=adapter), Counter())
        try:
            yield sender, air, all_of_them
        finally:
            await sender.close()


@pytest.mark.real_time
@pytest.mark.parametrize("extended", [True, False], ids=["bluetooth-5", "bluetooth-4"])
async def test_each_advert_has_a_payload_of_its_own(extended):
    async with on_tcp(extended) as (sender, air, _):
        heard, payloads = [], Payloads(20)
        air.sniffers.append(lambda _, advert: heard.append((advert.kind, advert.data)))
        assert not sender.up and sender.problem
        news = asyncio.Event()
        sender.start(payloads.take, news.set)
        await until(lambda: (3, payload(20)) in heard)
        if not extended:  # this machine may be late in switching the advert off
            heard[:] = dict.fromkeys(heard)
        assert heard == [(3, payload(number)) for number in range(1, 21)]
        assert sender.up and not sender.problem and news.is_set()
        payloads.left = 1
        sender.wake()
        await until(lambda: (3, payload(21)) in heard)


@pytest.mark.parametrize(
    ("extended", "interval_s"), [(True, 0.020), (False, 0.030)], ids=["bluetooth-5", "bluetooth-4"]
)
async def test_the_pause_between_two_payloads_is_the_interval_and_up_to_10_ms(extended, interval_s):
    air, times = VirtualAir(1), []
    loop = asyncio.get_running_loop()

    async def open_transport():
        return InProcess(AirController(air, GATEWAY, extended=extended))

    sender = BumbleSender("test", OwnController("test", open_transport, ""), 0xFFFF)
    air.sniffers.append(lambda *_: times.append(loop.time()))
    sender.start(Payloads(1001).take, lambda: None)
    await until(lambda: len(times) == 1001)
    assert sender.interval_ms == 1000 * interval_s
    await sender.close()
    pauses = [after - before for before, after in pairwise(times)]
    assert all(interval_s - 1e-6 < pause < interval_s + 0.010 + 1e-6 for pause in pauses)
    assert interval_s + 0.0045 < sum(pauses) / len(pauses) < interval_s + 0.0055
    assert len({round(1000 * pause) for pause in pauses}) >= 10, "and they are not alike"


@pytest.mark.req("SEC-38")
@pytest.mark.parametrize("extended", [True, False], ids=["bluetooth-5", "bluetooth-4"])
async def test_a_payload_that_is_withdrawn_before_it_is_on_the_air_is_never_sent(extended):
    air, heard, payloads = VirtualAir(1), [], Payloads(1000)

    class Controller(AirController):
        """At the payload 5, and while 8 is on the air, all payloads are withdrawn."""

        def on_hci_le_set_extended_advertising_data_command(self, command):
            return self.withdrawn_at(command, super().on_hci_le_set_extended_advertising_data_command)

        def on_hci_le_set_advertising_data_command(self, command):
            return self.withdrawn_at(command, super().on_hci_le_set_advertising_data_command)

        def withdrawn_at(self, command, handle):
            if command.advertising_data == payload(5):
                sender.withdraw()
            return handle(command)

    async def open_transport():
        return InProcess(Controller(air, GATEWAY, extended=extended))

    def sniff(_, advert):
        heard.append(advert.data)
        if advert.data == payload(8):
            sender.withdraw()

    sender = BumbleSender("test", OwnController("test", open_transport, ""), 0xFFFF)
    air.sniffers.append(sniff)
    sender.start(payloads.take, lambda: None)
    await until(lambda: payload(12) in heard)
    await sender.close()
    assert heard[:11] == [payload(number) for number in range(1, 13) if number != 5]


@pytest.mark.parametrize("extended", [True, False], ids=["bluetooth-5", "bluetooth-4"])
async def test_a_sender_without_payloads_is_silent(extended):
    air, heard, payloads = VirtualAir(1), [], Payloads(5)

    async def open_transport():
        return InProcess(AirController(air, GATEWAY, extended=extended))

    sender = BumbleSender("test", OwnController("test", open_transport, ""), 0xFFFF)
    air.sniffers.append(lambda _, advert: heard.append(advert.data))
    sender.start(payloads.take, lambda: None)
    await asyncio.sleep(60)
    assert heard == [payload(number) for number in range(1, 6)]
    await sender.close()


@pytest.mark.real_time
async def test_a_controller_that_goes_away_is_opened_again(monkeypatch, caplog):
    monkeypatch.setattr(bumble_controller, "RETRY_MIN_S", 0.01)
    async with on_tcp() as (sender, air, controllers):
        heard, payloads = [], Payloads(10**6)
        air.sniffers.append(lambda _, advert: heard.append(advert.data))
        news = []
        sender.start(payloads.take, lambda: news.append(sender.up))
        await until(lambda: heard)
        controllers[0].transport.abort()
        await until(lambda: news == [True, False, True])
        count = len(heard)
        await until(lambda: len(heard) > count)
        sender.steps[0].take()
        await until(lambda: len(controllers) == 3 and sender.up)
    assert {record.name for record in caplog.records} == {bumble_controller.__name__}, "no tracebacks of Bumble"
    assert "the controller is gone. Plug it in" in caplog.text


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost():
    device = HostDevice(InProcess(AirController(VirtualAir(1), GATEWAY)))
    device.host.hci_sink = None  # the answer comes from here
    command = hci.HCI_LE_Set_Advertising_Enable_Command(advertising_enable=0)
    role = asyncio.create_task(device.send_sync_command(command))
    await until(lambda: device.host.pending_response)
    answer = hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)
    device.host.pending_response.set_result(
        hci.HCI_Command_Complete_Event(
            num_hci_command_packets=1, command_opcode=command.op_code, return_parameters=answer
        )
    )
    role.cancel()
    with pytest.raises(asyncio.CancelledError):
        await role


@pytest.mark.real_time
@pytest.mark.parametrize("octets", [b"", b"\xff" * 100, b"\x04\x0e\x04\x01\x03\x0c\x01" * 2, b"\x04\xff\xff"])
async def test_what_answers_nothing_or_garbage_is_no_controller_and_is_tried_again(monkeypatch, caplog, octets):
    monkeypatch.setattr(bumble_controller, "OPEN_S", 0.1)
    monkeypatch.setattr(bumble_controller, "RETRY_MIN_S", 0.01)
    connected = []

    async def silent(reader, writer):
        connected.append(writer)
        writer.write(octets)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = ble_hci.open_sender(BleSection(sender="hci", adapter=f"tcp-client:127.0.0.1:{port}"), Counter())
    sender.start(lambda: None, lambda: None)
    await until(lambda: len(connected) >= 3)
    assert not sender.up and "Plug it in" in sender.problem
    with pytest.raises(OSError, match="Plug it in"):
        await sender.carrier.connect("02:00:00:00:00:11", lambda value: None, lambda: None)
    await sender.close()
    server.close()
    await until(lambda: all(writer.transport.get_protocol() is None or writer.is_closing() for writer in connected))


@pytest.mark.real_time
async def test_a_controller_that_refuses_to_advertise_is_opened_again_and_again(monkeypatch):
    monkeypatch.setattr(bumble_controller, "RETRY_MIN_S", 0.01)

    def refused(self, command):
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.MEMORY_CAPACITY_EXCEEDED_ERROR)

    monkeypatch.setattr(AirController, "on_hci_le_set_extended_advertising_enable_command", refused)
    async with on_tcp() as (sender, _, controllers):
        payloads = Payloads(10**6)
        sender.start(payloads.take, lambda: None)
        await until(lambda: len(controllers) >= 3)
        assert payloads.taken >= 2


def test_a_name_that_is_no_transport_is_refused():
    with pytest.raises(NoSender, match="usb:0"):
        ble_hci.open_sender(BleSection(sender="hci", adapter="hci0"), Counter())


async def test_a_usb_that_refuses_a_controller_is_no_fault_of_ours(monkeypatch):
    usb1 = pytest.importorskip("usb1", exc_type=OSError)

    async def refuses(transport):
        raise usb1.USBErrorOther(-99)

    monkeypatch.setattr(ble_hci, "open_transport", refuses)
    sender = ble_hci.open_sender(BleSection(sender="hci", adapter="usb:0"), Counter())
    sender.start(lambda: None, lambda: None)
    await until(lambda: "USB" in sender.problem)
    assert "Plug it in" in sender.problem and "fault of keycast" not in sender.problem and not sender.up
    await sender.close()
