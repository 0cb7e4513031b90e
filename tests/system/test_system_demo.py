"""`keycast demo --ble`: boards with Bluetooth only are keyed by adverts, and the one that is expelled reads none."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.demo.house import BLE, PN_ID, WIFI
from keycast.virtual_board.thief import Thief
from tests.system.conftest import house_of
from tests.system.keycast_process import KEYCAST
from tests.system.watching import keyed

SG = "home/lights"


def test_the_demo_with_bluetooth(tmp_path: Path) -> None:
    words = [KEYCAST, "demo", "--ble", "--boards", "6", "--loss", "0.1", "--seed", "4", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    joined, expelled = figures["deliveries"]
    assert figures["ble"] is True and expelled["confirmed_count"] == 3
    assert joined["adverts"] >= 6 and expelled["adverts"] >= 6  # an object has at least 6 rows
    assert figures["pull_refused"] is True and figures["excluded_could_read"] is False
    assert figures["thief_frames"] >= 2


@pytest.mark.req("SEC-01", "SEC-06")
async def test_who_is_thrown_out_reads_no_advert_and_a_member_with_his_ears_does(tmp_path: Path) -> None:
    """The thief of the first board proves that the ears of the other one are good."""
    async with house_of(tmp_path, 4, radios=(BLE, WIFI), delivery=DeliveryPolicy(method="broadcast")) as house:
        names = list(house.boards)
        assert [house.radios[name] for name in names] == [BLE, WIFI, BLE, WIFI] and house.adverts is not None
        house.server.create_group(SG, open_to=[PN_ID])
        await asyncio.gather(*(house.boards[name].command("join", group=SG, timeout_s=180) for name in names))
        before = await keyed(house, SG, names)
        house.adverts.adverts()
        house.server.expel(SG, names[2])
        version = await keyed(house, SG, [*names[:2], names[3]], above=before)
        adverts = house.adverts.adverts()
        found = []
        for name in (names[0], names[2]):
            thief = Thief([house.boards[name].nvs])
            assert thief.hear_adverts(adverts, house.app.pn_alias) >= 1
            found.append(thief.readable())
        assert found[0] == [version] and found[1] == []
        stranger = Thief([])
        assert stranger.hear_adverts(adverts, house.app.pn_alias) == 0
