"""Both radios of the gateway in a guest: a real access point, whose station hears the broadcasts, and real BlueZ."""

import pytest

from cpns import broadcast_object, numbers
from tools.radio_bench.house import house

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SG = "kitchen"
WIFI = "sh /opt/keycast/tools/radio_bench/on_guest/wifi.sh"
HEARD = "/tmp/heard"


async def versions_heard(guest):
    """The versions of the Group Keys that the station has heard."""
    lines = (await guest.text(HEARD)).split()
    found = [broadcast_object.parse(bytes.fromhex(line)) for line in lines if line.startswith("d2")]
    return {each.version for each in found if isinstance(each, broadcast_object.Received)}


@pytest.mark.req("CPNS-GKM-71")
async def test_a_key_goes_by_advert_and_over_wpa2_and_wifi_goes_on_without_bluetooth(guest, logs):
    await guest.run(f"{WIFI} up", timeout_s=120)
    hear = f"python3 -m tools.radio_bench.on_guest.hear_broadcasts {numbers.PORT_BROADCAST}"
    try:
        async with house(guest, logs, "mgmt", boards=1, loss=0.1, interface="wlan0") as home:
            hearing = await guest.start(f"ip netns exec station {hear}", HEARD)
            await guest.until(f"grep -q hears {HEARD}")
            await home.join(SG)
            version = await home.update(SG)
            assert [each["broadcast"] for each in await home.keyed(SG, version)] == [True]
            await home.confirmed(SG)
            assert version in await versions_heard(guest)

            await home.adapter.unplug()
            version = await home.update(SG)
            await guest.until(f"test $(grep -c ^d2 {HEARD}) -ge {version - 1}", timeout_s=60)
            assert version in await versions_heard(guest)
            await guest.end(hearing)
    finally:
        await guest.run(f"rm -f {HEARD}; {WIFI} down", check=False)
