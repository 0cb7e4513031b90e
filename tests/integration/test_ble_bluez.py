"""The sender by bluetoothd, over a real D-Bus daemon against a scripted bluetoothd."""

import asyncio
import shutil
from collections import Counter, deque

import pytest

from gateway_agent.radios import ble_bluez, bluez_bus
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_bluez import BluezSender
from gateway_agent.radios.ble_sender import PAYLOAD_LEN, NoSender
from gateway_agent.radios.bluez_bus import BluezAdapter, BluezError
from tests.integration.scripted_bluez import PrivateBus, ScriptedBluez
from tests.waiting import until

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="dbus-daemon is not installed"),
]


def payload(number):
    return bytes([PAYLOAD_LEN - 1, 0xFF, 0xFF, 0xFF]) + number.to_bytes(24, "big")


@pytest.fixture
def bus(tmp_path):
    bus = PrivateBus(tmp_path)
    yield bus
    bus.stop()


@pytest.fixture
async def bluetoothd(bus):
    """Return a function that starts a scripted bluetoothd on the bus."""
    begun = []

    async def begin(**options):
        begun.append(await ScriptedBluez(bus.address, **options).start())
        return begun[-1]

    yield begin
    for each in begun:
        each.stop()


class Sending:
    """A started sender with its frames; `ups` has `up` at each news."""

    def __init__(self, bus, count=0, adapter="auto"):
        self.left = deque(payload(number) for number in range(count))
        self.taken = []
        self.counters = Counter()
        self.restarted = []
        self.sender = BluezSender(
            adapter, 0xFFFF, self.counters, bus_address=bus.address, restart=self.restarted.append
        )
        self.ups = []
        self.sender.start(self.take, lambda: self.ups.append(self.sender.up))

    def take(self):
        if not self.left:
            return None
        self.taken.append(self.left.popleft())
        return self.taken[-1]

    def give(self, count):
        known = len(self.taken) + len(self.left)
        self.left.extend(payload(number) for number in range(known, known + count))
        self.sender.wake()


@pytest.fixture
async def sending(bus):
    """Return a function that starts a sender on the bus."""
    begun = []

    def begin(count=0, adapter="auto"):
        begun.append(Sending(bus, count, adapter))
        return begun[-1]

    yield begin
    for each in begun:
        await each.sender.close()


async def test_each_payload_is_given_to_the_controller_at_most_five_a_second(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=6)
    await until(lambda: it.taken and it.taken[-1] in bluez.payloads and len(it.taken) == 6)
    ours = [(at, each) for at, each in bluez.on_air if each in it.taken]
    assert [each for _, each in ours] == it.taken and it.counters["ble_sent"] == 6
    assert ours[-1][0] - ours[0][0] > 5 * ble_bluez.SPACING_S - 0.1
    assert bluez.intervals == [20, 20]
    assert (it.sender.interval_ms, it.sender.frame_s, it.sender.adapter, it.sender.advice) == (20, 0.2, "hci0", "")


async def test_the_registration_ends_while_there_is_nothing_to_send(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=1)
    await until(lambda: "UnregisterAdvertisement" in bluez.calls)
    assert not bluez.registered and not bluez.has_died and it.sender.up
    it.give(1)
    await until(lambda: it.taken[-1] in bluez.payloads and len(it.taken) == 2)


@pytest.mark.req("SEC-38")
async def test_what_is_withdrawn_is_replaced_by_noise(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=50)
    await until(lambda: len(it.taken) >= 2 and it.taken[-1] in bluez.payloads)
    it.left.clear()
    it.sender.withdraw()
    at = asyncio.get_running_loop().time()
    await until(lambda: bluez.on_air[-1][1] not in it.taken)
    assert bluez.on_air[-1][0] - at < ble_bluez.SPACING_S + 5
    assert len(bluez.on_air[-1][1]) == PAYLOAD_LEN and bluez.on_air[-1][1][:4] == payload(0)[:4]
    await until(lambda: not bluez.registered)
    assert not bluez.has_died, "bluetoothd 5.66 dies of an unregistration with a change under way"
    assert bluez.on_air[-1][1] not in it.taken


@pytest.mark.req("SEC-38")
async def test_the_last_payload_is_replaced_when_it_has_had_its_time(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=1)
    await until(lambda: it.taken and it.taken[0] in bluez.payloads)
    await until(lambda: bluez.on_air[-1][1] not in it.taken)
    assert bluez.registered, "before the registration ends, which needs a pause"


@pytest.mark.req("SEC-38")
async def test_a_payload_whose_registration_is_under_way_is_not_sent_after_its_withdrawal(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending()
    await until(lambda: "UnregisterAdvertisement" in bluez.calls)
    it.give(1)
    await until(lambda: it.taken)
    it.sender.withdraw()
    await until(lambda: bluez.calls.count("UnregisterAdvertisement") == 2)
    assert it.taken[0] not in bluez.payloads


async def test_bluetoothd_does_not_die_when_the_sender_ends(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=50)
    await until(lambda: len(it.taken) >= 2)
    await it.sender.close()
    assert not bluez.has_died and not bluez.registered


async def test_bluetoothd_dies_and_comes_back(bluetoothd, sending):
    first = await bluetoothd()
    it = sending(count=500)
    await until(lambda: it.taken)
    first.stop()
    await until(lambda: not it.sender.up)
    await until(lambda: it.sender.problem == "bluetoothd does not run. Next: systemctl start bluetooth")
    second = await bluetoothd()
    await until(lambda: it.sender.up and it.taken[-1] in second.payloads)
    assert it.ups == [True, False, True]


async def test_bluetoothd_that_is_absent_at_the_start(bus, bluetoothd, sending):
    it = sending(count=1)
    await until(lambda: it.sender.problem == "bluetoothd does not run. Next: systemctl start bluetooth")
    assert bus.was_asked_to_start.exists(), "where systemd can start it, it does"
    bluez = await bluetoothd()
    await until(lambda: it.sender.up and it.taken and it.taken[-1] in bluez.payloads)


async def test_the_bus_dies_and_a_new_connection_cures_it(tmp_path, sending, bus, bluetoothd):
    await bluetoothd()
    it = sending(count=500)
    await until(lambda: it.taken)
    bus.stop()
    await until(lambda: not it.sender.up)
    assert "system bus" in it.sender.problem
    (tmp_path / "bus").unlink()
    again = PrivateBus(tmp_path)
    try:
        bluez = await bluetoothd()
        await it.sender.steps[0].take()
        await until(lambda: it.sender.up and it.taken[-1] in bluez.payloads)
        await it.sender.close()
    finally:
        again.stop()


async def test_an_adapter_that_is_pulled_out_and_put_back(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=500)
    await until(lambda: it.taken)
    bluez.pull_out()
    await until(lambda: it.sender.problem == "there is no Bluetooth adapter. Next: plug one in")
    bluez.plug_in()
    await until(lambda: it.sender.up and bluez.registered)
    assert it.ups == [True, False, True]


async def test_only_the_named_adapter_is_used(bluetoothd, sending):
    bluez = await bluetoothd()
    it = sending(count=1, adapter="hci1")
    await until(lambda: it.sender.problem.startswith("there is no adapter hci1. Next: "))
    bluez.plug_in("hci1")
    await until(lambda: it.taken and it.taken[-1] in bluez.payloads)
    assert it.sender.adapter == "hci1"


async def test_an_adapter_that_another_program_switches_off(bluetoothd, sending):
    bluez = await bluetoothd()
    bluez.powered["hci0"] = False
    it = sending(count=500)
    await until(lambda: it.taken)  # switched on at the start
    bluez.switch("hci0", False)
    await until(lambda: it.sender.problem == "hci0 is switched off. Next: bluetoothctl power on")
    bluez.switch("hci0", True)
    await until(lambda: it.sender.up)
    bluez.switch("hci0", False)
    await until(lambda: not it.sender.up)
    await it.sender.steps[1].take()
    assert it.sender.up and bluez.powered["hci0"]


async def test_rfkill(bluetoothd, sending):
    bluez = await bluetoothd()
    bluez.powered["hci0"], bluez.is_blocked = False, True
    it = sending(count=1)
    await until(
        lambda: it.sender.problem == "hci0 is blocked by rfkill (airplane mode). Next: rfkill unblock bluetooth"
    )
    bluez.is_blocked = False
    await it.sender.steps[1].take()
    assert it.sender.up


async def test_all_adverts_taken_by_other_programs(bluetoothd, sending):
    bluez = await bluetoothd()
    bluez.instances = 0
    it = sending(count=1)
    await until(lambda: it.sender.problem.startswith("all adverts that hci0 can have are those of other programs."))
    assert it.counters["ble_refused"] == 1


async def test_a_registration_that_the_kernel_refuses(bluetoothd, sending):
    bluez = await bluetoothd()
    bluez.fails = ("org.bluez.Error.Failed", "Failed to register advertisement")
    it = sending(count=1)
    await until(lambda: 'or sender = "mgmt" in [ble]' in it.sender.problem)
    bluez.fails = None
    await it.sender.steps[0].take()
    await until(lambda: it.sender.up and it.taken)


async def test_the_harshest_step(bluetoothd, sending):
    await bluetoothd()
    it = sending()
    await until(lambda: it.sender.up)
    await it.sender.steps[2].take()
    assert it.restarted == [0] and it.sender.up
    assert [step.what for step in it.sender.steps] == [
        "register its adverts again",
        "switch the adapter off and on",
        "reset the adapter",
    ]


async def test_devices_that_a_scan_finds_do_not_concern_the_sender(bluetoothd, sending):
    bluez = await bluetoothd()
    bluez.instances = 0
    it = sending()
    await until(lambda: it.sender.problem.startswith("all adverts"))
    calls = len(bluez.calls)
    for _ in range(20):
        bluez.find_device()
    await asyncio.sleep(0.1)
    assert len(bluez.calls) == calls


async def test_a_bluetoothd_that_ignores_the_interval_is_recognised(bluetoothd, sending, caplog):
    await bluetoothd(keeps_interval=False)
    it = sending()
    await until(lambda: it.sender.up)
    assert (it.sender.interval_ms, it.sender.frame_s) == (1280, 1.31)
    assert "Experimental = true" in it.sender.advice and it.sender.advice in caplog.text


async def test_a_4_x_controller(bluetoothd, sending):
    await bluetoothd(extended=False, keeps_interval=False)
    it = sending()
    await until(lambda: it.sender.up)
    assert (it.sender.interval_ms, it.sender.frame_s, it.sender.advice) == (100, 0.2, "")


async def test_the_policy_of_the_bus_refuses(tmp_path):
    bus = PrivateBus(tmp_path, denies=True)
    it = Sending(bus)
    try:
        bluez = await ScriptedBluez(bus.address).start()
        await until(lambda: "usermod -aG bluetooth USER" in it.sender.problem)
        await it.sender.close()
        bluez.stop()
    finally:
        bus.stop()


def test_a_machine_without_a_system_bus(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    with pytest.raises(NoSender, match=r"There is no system bus at .*none\. Next: systemctl start dbus"):
        ble_bluez.open_sender(BleSection(), Counter())


@pytest.mark.parametrize("release", ["6.12.93+rpt-rpi-v8", "6.18.34-v8+"])
def test_the_kernels_on_which_registration_is_known_to_fail(release):
    error = BluezError("org.bluez.Error.Failed", "Failed to register advertisement")
    words = bluez_bus.in_words(error, "hci0", release)
    assert "a known fault" in words and release.split("+")[0].split("-")[0] in words and 'sender = "mgmt"' in words


def test_adapters_as_bluetoothd_shows_them():
    adapter = BluezAdapter("/org/bluez/hci3", "00:11:22:33:44:55", True, True, True, False, 1, 3)
    assert (adapter.name, adapter.interval_ms) == ("hci3", 1280)
