"""`keycast demo --ble` and `--trust end-to-end`: the expelled reads no advert, and the PN GW no key that it carries."""

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
NAMES = ("lights", "alarm")


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


@pytest.mark.req("SEC-25", "SEC-26", "CPNS-GKM-81", "CPNS-GKM-91")
def test_the_demo_with_an_end_to_end_group(tmp_path: Path) -> None:
    """The same search finds the key of the ordinary group, and the expelled board opens what was for it before."""
    words = [KEYCAST, "demo", "--trust", "end-to-end", "--boards", "5", "--seed", "4", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    lights, alarm = ([each for each in figures["deliveries"] if each["sg_id"] == f"home/{name}"] for name in NAMES)
    assert [each["confirmed_count"] for each in alarm] == [each["confirmed_count"] for each in lights] == [3, 2]
    assert [each["datagrams"] for each in alarm] == [3, 2] and {each["method"] for each in alarm} == {"end-to-end"}
    assert len(figures["confirmations"]) == 5 and all(each["tries"] >= 1 for each in figures["confirmations"])
    assert figures["wrapped_count"] >= 5 and figures["messages_heard"] == 2
    assert figures["excluded_opened"] and max(figures["excluded_opened"]) < alarm[1]["version"]
    assert figures["pull_refused"] is True and figures["excluded_could_read"] is False
    assert figures["gateway_holds_ordinary"] is True and figures["gateway_could_read"] is False


def test_a_trust_that_there_is_not_is_one_sentence(tmp_path: Path) -> None:
    words = [KEYCAST, "demo", "--trust", "nobody", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1 and json.loads(done.stdout)["code"] == "not-allowed"


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
