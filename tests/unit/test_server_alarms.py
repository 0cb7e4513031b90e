"""Alarms of a CPNS Server: each trouble is told once, and the same trouble of many PN GWs as one with a count."""

import logging
from pathlib import Path

import pytest

from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.values import Moment
from tests.unit.cpns_server_parts import House

NOW = Moment(1000.0, 1_700_000_000)
LATER = Moment(1060.0, 1_700_000_060)


def raised(number: int, kind: str = kinds.SILENT) -> ServerAlarms:
    alarms = ServerAlarms()
    for i in range(number):
        alarms.set(kind, f"gw.{i}", "", f"PN GW gw.{i} is silent.", NOW)
    return alarms


def test_a_few_are_told_one_by_one_with_their_names() -> None:
    alarms = raised(3)
    assert [(alarm.gateway_id, alarm.count) for alarm in alarms.standing()] == [("gw.0", 1), ("gw.1", 1), ("gw.2", 1)]


def test_many_are_one_alarm_with_a_count_and_some_names() -> None:
    alarms = raised(10_000)
    alarms.set(kinds.SILENT, "gw.0", "", "again", LATER)
    (alarm,) = alarms.standing()
    assert (alarm.kind, alarm.gateway_id, alarm.sg_id) == (kinds.SILENT, "", "")
    assert alarm.count == 10_000 and alarm.since == NOW.unix
    assert alarm.text.startswith("10000 PN GWs (gw.0, gw.1, gw.2, ...) sent no version list")
    assert "Check their uplinks" in alarm.text


def test_many_are_a_few_lines_of_the_log_when_they_begin_and_one_when_they_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    alarms = raised(1000)
    assert len(caplog.records) <= 3 + 9  # each time they are twice as many
    assert "512 PN GWs" in caplog.text
    caplog.clear()
    for i in range(1000):
        alarms.clear(kinds.SILENT, f"gw.{i}", "")
    (line,) = caplog.records
    assert "ends" in line.getMessage() and alarms.standing() == ()
    caplog.clear()
    alarms.set(kinds.SILENT, "gw.7", "", "PN GW gw.7 is silent.", LATER)
    assert "gw.7 is silent" in caplog.text


def test_the_groups_of_one_pn_gw_are_told_together_too() -> None:
    alarms = ServerAlarms()
    for i in range(40):
        alarms.set(kinds.UNDELIVERED, "gw.home", f"sg{i}", "text", NOW)
    (alarm,) = alarms.standing()
    assert alarm.text.startswith("PN GW gw.home did not take the newest state of 40 Service Groups (sg0, sg1, sg2, ")


@pytest.mark.parametrize("kind", list(kinds.CODES))
def test_every_kind_has_words_for_many(kind: str) -> None:
    (alarm,) = raised(9, kind).standing()
    assert alarm.count == 9 and "{" not in alarm.text


def test_many_of_one_kind_do_not_drive_out_another() -> None:
    alarms = ServerAlarms()
    alarms.set(kinds.AHEAD, "gw.home", "light", "run restore", NOW)
    for i in range(kinds._MOST + 5):
        alarms.set(kinds.UNDELIVERED, f"gw.{i}", "light", "text", LATER)
    ahead, undelivered = alarms.standing()
    assert ahead.kind == kinds.AHEAD and undelivered.count == kinds._MOST


def test_what_is_told_together_is_dismissed_together_or_by_pn_gw() -> None:
    alarms = raised(10)
    assert alarms.dismiss(kinds.SILENT, "gw.3")
    assert [alarm.count for alarm in alarms.standing()] == [9]
    assert alarms.dismiss(kinds.SILENT)
    assert alarms.standing() == ()
    assert not alarms.dismiss(kinds.SILENT) and not alarms.dismiss("nonsense")


@pytest.mark.req("SEC-28")
async def test_many_silent_pn_gws_are_one_alarm_and_one_that_is_blocked_is_none(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    gateways = [house.gateway(f"home{i}") for i in range(5)]
    await house.create(gateways[0], "lamp0", "light")
    for i, gateway in enumerate(gateways):
        house.server.open_group("light", gateway.pn_id)
        await house.join(gateway, f"lamp{i}", "light")
    await house.pass_time(10)
    for gateway in gateways:
        gateway.down = True
    house.server.update_key("light")
    await house.pass_time(60)
    (alarm,) = house.server.alarms()
    assert (alarm.kind, alarm.count) == ("undelivered", 5)
    await house.pass_time(tuning.VERSION_LIST_OVERDUE_S)
    assert [(alarm.kind, alarm.count) for alarm in house.server.alarms()] == [("undelivered", 5), ("silent", 5)]
    for gateway in gateways[1:]:
        await house.server.block_gateway(gateway.gateway_id)
    assert {alarm.gateway_id for alarm in house.server.alarms()} == {"gw.home0"}
    gateways[0].down = False
    await house.list_versions(gateways[0], (gateways[0].newest("light"), "light"))
    await house.work()
    assert house.server.alarms() == ()
    await house.server.close()
