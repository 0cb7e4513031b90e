"""What happens to real BlueZ while the gateway runs: bluetoothd dies, the adapter is switched off or pulled out."""

import asyncio
import time

import pytest

from gateway_agent.radios.mgmt_instances import TIMEOUT_S
from tools.radio_bench.adapter import ADDRESS
from tools.radio_bench.house import house

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SG = "kitchen"
BACK_S = 120  # the steps of recovery are taken after 2, 4, 8 .. seconds
OTHERS = "0409626e63"  # a complete local name of another program's advert, "bnc"


async def until(condition, what):
    """Wait until `await condition()` holds."""
    ends = time.monotonic() + BACK_S
    while not await condition():
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.3)


async def next_key(home):
    """Make a key and wait until all boards have it and have confirmed it; return whether each got it by broadcast."""
    version = await home.update(SG)
    told = await home.keyed(SG, version)
    await home.confirmed(SG)
    return [each["broadcast"] for each in told]


@pytest.mark.parametrize("sender", ["mgmt", "bluez"])
async def test_keys_go_by_advert_again_after_bluetoothd_has_died(guest, logs, sender):
    async with house(guest, logs, sender, boards=1, loss=0.0) as home:
        await home.join(SG)
        await home.adapter.kill_bluetoothd()
        await guest.until("pidof bluetoothd")

        async def is_well():
            network = await home.network()
            return not network["problem"] and not network["deaf"]

        await until(is_well, "the radio did not come back")
        assert await next_key(home) == [True]


@pytest.mark.parametrize("sender", ["mgmt", "bluez"])
async def test_keys_go_by_advert_again_after_the_adapter_was_switched_off_and_on(guest, logs, sender):
    async with house(guest, logs, sender, boards=1, loss=0.0) as home:
        await home.join(SG)
        await home.adapter.power(is_on=False)

        async def is_down():
            return (await home.network())["problem"]

        await until(is_down, "nobody noticed that the adapter is off")
        await home.adapter.power(is_on=True)

        async def is_well():
            return not await is_down()

        await until(is_well, "the radio did not come back")
        assert await next_key(home) == [True]


async def test_the_advert_of_another_program_stays_and_ours_go_when_the_gateway_ends(guest, logs):
    on_air = {}

    def sniff(sender, advert):
        if sender.name == ADDRESS:
            on_air[advert.data.hex()] = time.monotonic()

    def is_seen(part, since):
        return any(part in data and at > since for data, at in on_air.items())

    async with house(guest, logs, "mgmt", boards=1, loss=0.0) as home:
        home.air.sniffers.append(sniff)
        await guest.run(f"(sleep 2; echo 'add-adv -d {OTHERS} 4'; sleep 3; echo quit) | btmgmt")
        await home.join(SG)
        assert await next_key(home) == [True]
        assert any(OTHERS in data for data in on_air)
        await home.gateway.stop()
        await asyncio.sleep(1)  # what was on the air as it ended
        since = time.monotonic()
        await asyncio.sleep(3)
        assert is_seen(OTHERS, since)
        assert not is_seen("1bffffff", since), "an advert of the gateway is left behind"
        await home.gateway.start("mgmt")


async def test_what_a_killed_gateway_has_left_on_the_air_ends_by_itself(guest, logs):
    sent = []

    def sniff(sender, advert):
        if sender.name == ADDRESS and "1bffffff" in advert.data.hex():
            sent.append(time.monotonic())

    async with house(guest, logs, "mgmt", boards=1, loss=0.0) as home:
        await home.join(SG)
        await home.boards[0].kill()  # who does not confirm is sent to for long
        home.air.sniffers.append(sniff)
        await home.update(SG)

        async def is_sent():
            return sent

        await until(is_sent, "nothing is on the air")
        await home.gateway.kill()
        killed = time.monotonic()
        await asyncio.sleep(TIMEOUT_S + 15)
        left_s = max(sent) - killed
        print(f"the last advert of the killed gateway: after {left_s:.1f} s")
        assert left_s < TIMEOUT_S + 5
        await home.gateway.start("mgmt")
