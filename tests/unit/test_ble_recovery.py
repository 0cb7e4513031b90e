"""BLE that fails in every way beside Wi-Fi: keys go on by Wi-Fi, and BLE comes back by the steps of its recovery."""

import asyncio
from collections import Counter

import pytest

from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.ble_mgmt import MgmtSender
from tests.unit.scripted_kernel import ScriptedKernel
from tests.unit.scripted_medium import ScriptedMedium
from tests.unit.scripted_sender import BleRadio
from tests.unit.test_gateway_ble_medium import HOME, key_object

DATA = 0x55


class House:
    """Wi-Fi and BLE of one gateway, whose adapters are those of a scripted kernel."""

    def __init__(self):
        self.kernel = ScriptedKernel()
        self.controller = self.kernel.plug_in()
        self.restarts = 0
        sender = MgmtSender("auto", 0xFFFF, Counter(), open_it=self.kernel.open, restart=self._restart)
        self.radio = BleRadio(sender)
        self.wifi = ScriptedMedium()
        self.air = AllMedia([self.radio.medium, self.wifi], self.radio.counters)

    def _restart(self, index):
        self.restarts += 1

    async def deliver(self):
        """Air a key; return whether it has gone out by Wi-Fi at once, and by BLE within ten seconds."""
        by_wifi, adverts = len(self.wifi.left), len(self.on_air)
        airing = self.air.air([key_object()], 1, lambda: None)
        await asyncio.sleep(0.5)
        assert len(self.wifi.left) == by_wifi + 1
        await asyncio.sleep(9.5)
        airing.stop()
        return len(self.on_air) > adverts

    @property
    def on_air(self):
        return self.kernel.controllers[0].on_air if 0 in self.kernel.controllers else []


@pytest.fixture
async def house():
    house = House()
    house.air.open(lambda frame: None, HOME)
    await asyncio.sleep(1)
    assert await house.deliver()
    yield house
    await house.air.close()
    await asyncio.sleep(1)
    house.kernel.close()
    assert house.kernel.faults == []


def refuse(house):
    house.kernel.refusals = {DATA: [0x03] * 100_000}


def accept(house):
    house.kernel.refusals = {}


def unblock(house):
    house.controller.is_blocked = False


FAILURES = {
    "pulled out, put back": (lambda house: house.kernel.pull_out(), lambda house: house.kernel.plug_in()),
    "rfkill": (lambda house: house.controller.block(), unblock),
    "commands fail": (refuse, accept),
    "no answers": (lambda house: house.kernel.mute.add(DATA), lambda house: house.kernel.mute.clear()),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_lasts_is_told_wifi_goes_on_and_ble_comes_back_by_itself(house, name):
    breaks, mends = FAILURES[name]
    breaks(house)
    for _ in range(6):
        assert not await house.deliver()
    told = house.air.told()["ble"]
    assert "register its adverts again, switch the adapter off and on, reset the adapter." in told
    assert "Next: " in told and house.air.told()["scripted"] == ""
    mends(house)
    await asyncio.sleep(1)
    if name.startswith("pulled out"):  # the kernel tells of it; for others the next step is to come
        assert await house.deliver()
    for _ in range(120):
        if await house.deliver():
            break
    assert await house.deliver() and house.air.told()["ble"] == ""


@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param(lambda house: house.controller.switch(False), id="switched off by another program"),
        pytest.param(lambda house: house.kernel.hang_up(), id="the socket is closed"),
        pytest.param(lambda house: house.controller.remove_all(), id="bluetoothd starts and removes all instances"),
        pytest.param(lambda house: house.controller.add(1, b"\x02\x0a\x00"), id="adverts of another program"),
    ],
)
async def test_what_one_step_mends_is_mended_within_seconds(house, breaks):
    breaks(house)
    await asyncio.sleep(10)
    assert await house.deliver() and house.air.told()["ble"] == ""
