"""`keycast demo --ble` and `--trust end-to-end`: the expelled reads no advert, and the PN GW no key that it carries."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.broker import own_broker
from keycast.demo.house import BLE, PN_ID, WIFI
from keycast.program import program
from keycast.virtual_board.thief import Thief
from tests.system.conftest import house_of
from tests.system.keycast_process import KEYCAST
from tests.system.watching import keyed

SG = "home/lights"
NAMES = ("lights", "alarm")


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.req("CPNS-GKM-62", "CPNS-GKM-63")
def test_the_demo_with_two_homes_over_mqtt(tmp_path: Path) -> None:
    """One Service Group of each kind spans two PNs behind two PN GWs, and neither of these can read the second one."""
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("needs a broker (Debian: sudo apt install mosquitto)")
    words = [KEYCAST, "demo", "--homes", "2", "--uplink", "mqtt", "--trust", "end-to-end", "--boards", "6", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["homes"] == 2 and figures["uplink"] == "mqtt" and figures["trust"] == "end-to-end"
    for sg_id in (f"home/{name}" for name in NAMES):
        found = [each["confirmed_count"] for each in figures["deliveries"] if each["sg_id"] == sg_id]
        assert found == [4, 3]  # by turns they live in both homes
    assert {each["pne_id"] for each in figures["confirmations"]} == {
        "lamp.hall",
        "lamp.kitchen",
        "lamp.porch",
        "lamp.garage",
    }
    assert figures["messages_heard"] == 1  # by the only other member in the home of the one that speaks
    assert figures["gateway_holds_ordinary"] is True and figures["gateway_could_read"] is False


def test_without_a_mosquitto_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_broker, "mosquitto_places", lambda: "")
    done = CliRunner().invoke(program(["demo"]), ["demo", "--uplink", "mqtt", "--json"])
    assert done.exit_code == 1
    refusal = json.loads(done.stdout)
    assert refusal["code"] == "no-broker" and "sudo apt install mosquitto" in refusal["error"]


@pytest.mark.parametrize(
    "words",
    [
        "--trust nobody",
        "--uplink pigeons",
        "--homes 2 --uplink embedded",
        "--trust end-to-end --uplink embedded",
        "--homes 3 --boards 5",
    ],
)
def test_what_there_is_not_is_one_sentence(words: str) -> None:
    done = CliRunner().invoke(program(["demo"]), ["demo", *words.split(), "--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["code"] == "not-allowed"


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
