"""Scanner and connections by bluetoothd, with stand-ins for bleak that do as they are told. No radio is used."""

import asyncio
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason, BleakDBusError, BleakError

from cpns import numbers
from gateway_agent.radios import bleak_carrier, bleak_scanner
from gateway_agent.radios.ble_ears import Deaf, Ears
from gateway_agent.radios.ble_scanner import Advert
from gateway_agent.radios.bleak_carrier import BluezCarrier
from gateway_agent.radios.bleak_scanner import BluezScanner

COMPANY = 0xFFFF
LAMP = "F0:00:00:00:00:01"
SERVICES = [numbers.BLE_SERVICE]


class ScriptedScans:
    """Takes the place of bleak's `BleakScanner`. `fails`: exceptions of the next scans, None for one that begins."""

    def __init__(self):
        self.fails = []
        self.began = []
        self.running = 0
        self.stop_hangs = False
        self.detected = None

    def __call__(self, detected, *, bluez):
        self.detected, self.options = detected, bluez
        return self

    async def start(self):
        fault = self.fails.pop(0) if self.fails else None
        if fault is not None:
            raise fault
        self.began.append(asyncio.get_running_loop().time())
        self.running += 1

    async def stop(self):
        self.running -= 1
        if self.stop_hangs:
            await asyncio.Event().wait()

    def hears(self, company, services=(), address=LAMP):
        manufacturer_data = {COMPANY: company} if company is not None else {0x004C: b"other"}
        self.detected(
            SimpleNamespace(address=address),
            SimpleNamespace(manufacturer_data=manufacturer_data, service_uuids=list(services), rssi=-60),
        )


@pytest.fixture
def scans(monkeypatch):
    scripted = ScriptedScans()
    monkeypatch.setattr(bleak_scanner, "BleakScanner", scripted)
    return scripted


@pytest.fixture
async def ears(scans):
    """An open scanner; `ears.heard` has what it passed on."""
    counters = Counter()
    scanner = BluezScanner(lambda: "hci0", COMPANY, counters)
    made = SimpleNamespace(scanner=scanner, counters=counters, heard=[], scans=scans)
    scanner.open(made.heard.append)
    await asyncio.sleep(0.01)
    yield made
    await scanner.close()
    assert scans.running == 0


async def test_adverts_of_boards_are_passed_on_and_others_are_not(ears):
    assert ears.scans.options["adapter"] == "hci0" and ears.scans.options["filters"] == {"DuplicateData": True}
    ears.scans.hears(b"\x01", SERVICES)
    ears.scans.hears(b"\x00", SERVICES)
    ears.scans.hears(bytes(24), SERVICES)  # a report; bluetoothd remembers the services of the advert before
    for company, services in ((None, SERVICES), (b"", SERVICES), (b"\x01", ()), (bytes(23), ()), (bytes(25), SERVICES)):
        ears.scans.hears(company, services)
    assert ears.heard == [
        Advert(LAMP, None, True, True, -60),
        Advert(LAMP, None, True, False, -60),
        Advert(LAMP, bytes(24), False, False, -60),
    ]
    assert ears.scanner.device(LAMP).address == LAMP and ears.scanner.device("F0:00:00:00:00:02") is None


async def test_a_scan_begins_anew_every_few_seconds_also_if_the_last_one_cannot_be_ended(ears):
    await asyncio.sleep(10 * bleak_scanner.SCAN_S)
    assert 9 <= len(ears.scans.began) <= 11
    ears.scans.hears(None)
    ears.scans.stop_hangs = True
    await asyncio.sleep(4 * (bleak_scanner.SCAN_S + bleak_scanner.CALL_MAX_S))
    assert len(ears.scans.began) >= 13
    ears.scans.stop_hangs = False


@pytest.mark.parametrize(
    "fault, words",
    [
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["gone"]), "systemctl start bluetooth"),
        (BleakDBusError("org.freedesktop.DBus.Error.Spawn.ChildExited", ["code 1"]), "systemctl start bluetooth"),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["no"]), "group bluetooth"),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), "hci0 is switched off"),
        (
            BleakBluetoothNotAvailableError("none", BleakBluetoothNotAvailableReason.NO_BLUETOOTH),
            "there is no Bluetooth adapter",
        ),
        (
            BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF),
            "bluetoothctl power on",
        ),
        (BleakError("adapter 'hci0' not found"), "adapter 'hci0' not found"),
        (FileNotFoundError(2, "No such file or directory"), "there is no system bus"),
        (TimeoutError(), "bluetoothd does not answer"),
        (AssertionError(), "there is no system bus"),
    ],
)
async def test_what_is_wrong_is_told_and_tried_again_until_it_works(ears, fault, words):
    """bluetoothd is absent, dies, restarts; the adapter is off or gone."""
    ears.scans.fails = [fault] * 4
    await asyncio.sleep(bleak_scanner.SCAN_S + 0.1)
    assert words in ears.scanner.problem and "Next: " in ears.scanner.problem
    await asyncio.sleep(30)
    assert ears.scanner.problem == "" and ears.counters["ble_scans_failed"] == 4
    ears.scans.hears(b"\x01", SERVICES)
    assert len(ears.heard) == 1


class ScriptedBluez:
    """Takes the place of the connection to bluetoothd. `scanning`: what it says while nobody scans."""

    def __init__(self, scanning):
        self.scanning = scanning
        self.switched = []

    async def adapters(self):
        return [SimpleNamespace(name=name, path=f"/org/bluez/{name}") for name in ("hci0", "hci1")]

    async def is_scanning(self, path):
        return self.scanning

    async def switch(self, path, is_on):
        self.switched.append((path, is_on))

    def close(self):
        pass


@pytest.mark.parametrize("scanning", [True, False])
async def test_a_bluetoothd_that_cannot_end_a_scan_is_noticed_and_the_adapter_switched_off_and_on(
    ears, monkeypatch, scanning
):
    bluez = ScriptedBluez(scanning)

    async def connect():
        return bluez

    monkeypatch.setattr(bleak_scanner.bluez_bus, "connect", connect)
    await asyncio.sleep((bleak_scanner.SILENT_SCANS + 5) * bleak_scanner.SCAN_S)
    if not scanning:  # it is quiet here
        assert not bluez.switched and ears.scanner.problem == ""
        return
    assert bluez.switched == [("/org/bluez/hci0", False), ("/org/bluez/hci0", True)]
    assert "systemctl restart bluetooth" in ears.scanner.problem and ears.counters["ble_scans_unlocked"] == 1
    await asyncio.sleep(bleak_scanner.SWITCH_EVERY_S)
    assert len(bluez.switched) == 4
    ears.scans.hears(None)
    await asyncio.sleep(2 * bleak_scanner.SCAN_S)
    assert ears.scanner.problem == "", "something was heard"


async def test_a_flood_of_adverts_costs_a_bounded_time_each_second_and_bounded_memory(ears):
    for second in range(2):
        for number in range(5000):
            ears.scans.hears(b"\x00", SERVICES, f"F0:00:00:{second:02X}:{number // 256:02X}:{number % 256:02X}")
        await asyncio.sleep(1)
    assert len(ears.heard) == 2 * bleak_scanner.ADVERTS_PER_S
    assert ears.counters["ble_adverts_too_many"] == 10_000 - len(ears.heard)
    assert len(ears.scanner._devices) == bleak_scanner.DEVICES_MAX


# Connections


class ScriptedClient:
    """Takes the place of bleak's `BleakClient`. `fails`: exception of each step by its name."""

    def __init__(self):
        self.fails = {}
        self.hangs = False
        self.written = []
        self.is_connected = False
        self.characteristics = {numbers.BLE_TO_BOARD: 244, numbers.BLE_FROM_BOARD: 244}
        self.services = SimpleNamespace(get_characteristic=self._characteristic)

    def __call__(self, device, disconnected, *, services, bluez):
        self.device, self._disconnected = device, disconnected
        return self

    def _characteristic(self, uuid):
        size = self.characteristics.get(uuid)
        return None if size is None else SimpleNamespace(uuid=uuid, max_write_without_response_size=size)

    async def _step(self, name):
        if name in self.fails:
            raise self.fails[name]

    async def connect(self):
        if self.hangs:
            await asyncio.Event().wait()
        await self._step("connect")
        self.is_connected = True

    async def start_notify(self, characteristic, callback, *, bluez):
        assert characteristic.uuid == numbers.BLE_FROM_BOARD and bluez == {"use_start_notify": False}
        await self._step("start_notify")
        self.notifies = callback

    async def write_gatt_char(self, characteristic, value, *, response):
        assert characteristic.uuid == numbers.BLE_TO_BOARD and response
        await self._step("write")
        self.written.append(value)

    async def disconnect(self):
        await self._step("disconnect")
        self.lose()

    def lose(self):
        if self.is_connected:
            self.is_connected = False
            self._disconnected(self)


@pytest.fixture
def client(monkeypatch):
    scripted = ScriptedClient()
    monkeypatch.setattr(bleak_carrier, "BleakClient", scripted)
    return scripted


class Talk:
    """What came over a connection."""

    def __init__(self):
        self.received = []
        self.lost = 0

    def lose(self):
        self.lost += 1


async def connected(ears, talk):
    ears.scans.hears(b"\x01", SERVICES)
    return await BluezCarrier(ears.scanner).connect(LAMP, talk.received.append, talk.lose)


async def test_values_go_both_ways_and_the_end_is_told_once(ears, client):
    talk = Talk()
    connection = await connected(ears, talk)
    assert connection.value_max == 244 and client.device.address == LAMP
    client.notifies(None, bytearray(b"\x01hello"))
    client.notifies(None, bytearray(513))
    await connection.write(b"\x01answer")
    assert talk.received == [b"\x01hello", bytes(513)] and client.written == [b"\x01answer"]
    client.lose()
    client.lose()
    assert talk.lost == 1
    with pytest.raises(OSError, match="has ended"):
        await connection.write(b"\x01late")
    client.notifies(None, bytearray(b"\x01late"))
    assert len(talk.received) == 2
    await connection.close()


async def test_closing_is_no_loss_and_may_fail(ears, client):
    talk = Talk()
    connection = await connected(ears, talk)
    await connection.close()
    await connection.close()
    assert talk.lost == 0 and not client.is_connected
    client.fails["disconnect"] = BleakDBusError("org.freedesktop.DBus.Error.UnknownObject", ["gone"])
    connection = await connected(ears, talk)
    await connection.close()
    assert talk.lost == 0


@pytest.mark.parametrize("step", ["connect", "start_notify"])
@pytest.mark.parametrize("fault", [BleakError("no"), TimeoutError(), EOFError(), AssertionError()], ids=repr)
async def test_a_board_that_cannot_be_connected_or_subscribed_to_is_left_alone(ears, client, step, fault):
    client.fails[step] = fault
    talk = Talk()
    with pytest.raises(OSError):
        await connected(ears, talk)
    assert not client.is_connected and talk.lost == 0


async def test_a_device_without_the_two_values_is_no_board(ears, client):
    del client.characteristics[numbers.BLE_FROM_BOARD]
    with pytest.raises(OSError, match="no service of boards"):
        await connected(ears, Talk())
    assert not client.is_connected


async def test_a_connection_that_nobody_waits_for_any_more_is_ended(ears, client):
    client.hangs = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await connected(ears, Talk())
    assert not client.is_connected


async def test_while_a_connection_is_made_the_scan_begins_anew_and_then_no_more(ears, client):
    """A chip reports an advert once in a scan, and the kernel connects when it is reported."""
    client.hangs = True
    connecting = asyncio.create_task(connected(ears, Talk()))
    await asyncio.sleep(3)
    assert 5 <= len(ears.scans.began) <= 7
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await asyncio.sleep(bleak_scanner.SCAN_S - 1)
    assert len(ears.scans.began) <= 7
    client.hangs = False
    before = len(ears.scans.began)
    await connected(ears, Talk())
    await asyncio.sleep(bleak_scanner.SCAN_S - 2)
    assert len(ears.scans.began) <= before + 1


async def test_a_write_that_fails_is_told(ears, client):
    connection = await connected(ears, Talk())
    client.fails["write"] = BleakDBusError("org.bluez.Error.Failed", ["Not connected"])
    with pytest.raises(OSError):
        await connection.write(b"\x01x")


async def test_a_board_that_was_not_heard_cannot_be_connected_to(ears, client):
    with pytest.raises(OSError, match="was not heard"):
        await BluezCarrier(ears.scanner).connect(LAMP, print, print)


@pytest.mark.parametrize("size, value_max", [(20, 20), (514, 512), (512, 512), (0, 20)])
async def test_values_have_the_length_that_bluez_allows(ears, client, size, value_max):
    client.characteristics[numbers.BLE_TO_BOARD] = size
    assert (await connected(ears, Talk())).value_max == value_max


# Which of them is used


def section():
    return SimpleNamespace(adapter="auto", company_id=COMPANY)


async def test_a_controller_of_its_own_brings_scanner_and_carrier():
    scanner, calls = Deaf(""), []

    class Own:
        async def connect(self, *given):
            calls.append(given)
            return "connection"

    ears = Ears(section(), Counter())
    with pytest.raises(OSError, match="no radio"):
        await ears.connect(LAMP, print, print)
    assert ears.beside(None) is None
    sender = SimpleNamespace(scanner=scanner, carrier=Own(), adapter="")
    assert ears.beside(sender) is scanner is ears.beside(sender)
    assert await ears.connect(LAMP, print, print) == "connection" and calls == [(LAMP, print, print)]


async def test_beside_an_adapter_of_the_machine_bluetoothd_scans_on_the_same_one():
    sender = SimpleNamespace(scanner=None, carrier=None, adapter="hci3")
    scanner = Ears(section(), Counter()).beside(sender)
    assert isinstance(scanner, BluezScanner) and scanner.adapter == "hci3"


async def test_without_bleak_it_says_what_to_install_and_sends_all_the_same(monkeypatch):
    for module in ("bleak", "gateway_agent.radios.bleak_carrier", "gateway_agent.radios.bleak_scanner"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "bleak", None)
    ears = Ears(section(), Counter())
    scanner = ears.beside(SimpleNamespace(scanner=None, carrier=None, adapter="hci0"))
    assert scanner.problem == "the package bleak is not installed. Next: pip install 'keycast[ble]'"
    scanner.open(print)
    await scanner.close()
    with pytest.raises(OSError, match="no radio"):
        await ears.connect(LAMP, print, print)
