"""How many adverts and seconds an object takes from real BlueZ to a board that misses 30 %, beside a forger.

`make radio-bench` prints the figures.
"""

import tempfile
from pathlib import Path

import pytest

from gateway_agent.radios.virtual_air.air import VirtualAir
from tools.radio_bench import adapter, deliveries

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest.mark.req("SEC-10")
@pytest.mark.parametrize(("sender", "extended"), [("mgmt", True), ("mgmt", False), ("bluez", True)])
async def test_objects_of_6_11_and_62_rows_reach_a_board_beside_a_forger(guest, logs, sender, extended):
    air = VirtualAir(1)
    plugged = adapter.Adapter(guest, air)
    with tempfile.TemporaryDirectory(prefix="bench.") as place, adapter.AirLog(air, logs / "air.jsonl"):
        await plugged.plug(extended=extended)
        await plugged.start_bluetoothd("-E")
        try:
            found, told = await deliveries.measure(guest, air, sender, Path(place))
        finally:
            await guest.keep(logs, deliveries.AIRING_LOG, adapter.BLUETOOTHD_LOG)
            await plugged.end_bluetoothd()
            await plugged.unplug()
    assert told["sender"] == sender
    assert [each.rows for each in found] == [6, 11, 62]
    for each in found:  # 5 k for 75 % of loss: it is 30 % here, and an advert is on the air once at least
        assert each.rows <= each.adverts <= max(20, 5 * each.rows)
