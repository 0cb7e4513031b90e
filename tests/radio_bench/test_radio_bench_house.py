"""Group Keys over Bluetooth LE on real BlueZ: the installed gateway in a guest, boards without Wi-Fi on its air."""

import pytest

from tools.radio_bench.house import house

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SG = "kitchen"
SENDERS = [("mgmt", True), ("mgmt", False), ("bluez", True)]


@pytest.mark.req("CPNS-GKM-71", "CPNS-GKM-75", "SEC-10", "SEC-14")
@pytest.mark.parametrize(("sender", "extended"), SENDERS, ids=["mgmt", "mgmt-bluetooth-4", "bluez"])
async def test_boards_without_wifi_get_keys_by_advert_and_confirm_them(guest, logs, sender, extended):
    """EDHOC and GKDK by GATT, the key by adverts of which 30 % are lost, the report by advert or GATT."""
    async with house(guest, logs, sender, boards=2, loss=0.3, extended=extended) as home:
        scan = await guest.start("bluetoothctl --timeout 600 scan on", "/tmp/scan.log")  # as a desktop does
        before = await home.join(SG)
        for _ in range(2):
            version = await home.update(SG)
            told = await home.keyed(SG, version)
            assert [each["broadcast"] for each in told] == [True, True]
            assert await home.confirmed(SG) == version > before
        network = await home.network()
        assert (network["problem"], network["deaf"]) == ("", "")
        await guest.end(scan)


@pytest.mark.req("CPNS-GKM-75")
async def test_a_removed_board_hears_the_next_key_and_cannot_open_it(guest, logs):
    async with house(guest, logs, "mgmt", boards=3, loss=0.0) as home:
        before = await home.join(SG)
        gone = home.boards.pop()
        try:
            await home.gateway.ask("group.expel", sg_id=SG, pne_id="lamp.3")
            version = await home.confirmed(SG)
            told = await home.keyed(SG, version)
            assert version > before and [each["broadcast"] for each in told] == [True, True]
            assert not [each for each in gone.events if each["event"] == "key" and each["version"] > before]
        finally:
            home.boards.append(gone)
