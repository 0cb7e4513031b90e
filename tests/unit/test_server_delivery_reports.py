"""What a delivery report tells of each board is kept for the operator; a report without it is read as before."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server.values import StoredMember
from tests.unit.cpns_server_parts import House, error_of, succeeded


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await House.open(tmp_path)
    yield house
    await house.server.close()


@pytest.mark.req("Q-08")
async def test_a_report_tells_how_the_key_came_to_each_board(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    version = home.newest("light")
    lists = {m.SG_ID: "light", m.VERSION: version, m.CONFIRMED: ["lamp"], m.UNREACHABLE: ["door"]}
    report = {**lists, m.DELIVERY: [("door", None, 3, None), ("lamp", "wifi", 2, 1_800_000_000)]}
    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, report))
    lamp, door = shown(house, "lamp"), shown(house, "door")
    assert (lamp.report, lamp.confirmed, lamp.link, lamp.tries) == ("confirmed", version, "wifi", 2)
    assert lamp.confirmed_at == 1_800_000_000
    assert (door.report, door.confirmed, door.link, door.tries, door.confirmed_at) == ("unreachable", 0, "", 3, 0)

    house.server.update_key("light")
    await house.pass_time(10)
    later = {**lists, m.VERSION: home.newest("light"), m.CONFIRMED: ["door"], m.UNREACHABLE: ["lamp"]}
    report = {**later, m.DELIVERY: [("door", "mesh", 1, 0), ("lamp", None, 5, None)]}  # a link of a later release
    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, report))
    lamp, door = shown(house, "lamp"), shown(house, "door")
    assert (lamp.report, lamp.tries, lamp.confirmed, lamp.link) == ("unreachable", 5, version, "wifi")
    assert (door.report, door.confirmed, door.link, door.tries) == ("confirmed", home.newest("light"), "mesh", 1)

    before = shown(house, "door")
    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, {**lists, m.CONFIRMED: []}))
    assert shown(house, "door") == before  # the report of an older version came late

    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, later))  # of a PN GW of before
    assert (shown(house, "door").link, shown(house, "door").tries) == ("", 0)


@pytest.mark.req("Q-08")
async def test_a_report_about_a_board_of_no_list_is_refused_as_a_whole(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.pass_time(10)
    report = {m.SG_ID: "light", m.VERSION: home.newest("light"), m.CONFIRMED: ["lamp"]}
    told = [("lamp", "wifi", 1, 0), ("ghost", "wifi", 1, 0)]
    answer = await house.ask(home, n.DELIVERY_REPORT_REQUEST, {**report, m.DELIVERY: told})
    assert error_of(answer) == n.ERROR_MALFORMED
    assert shown(house, "lamp").report == ""


@pytest.mark.req("Q-08")
async def test_a_board_that_joins_again_has_no_report(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    report = {m.SG_ID: "light", m.VERSION: home.newest("light"), m.CONFIRMED: ["door"]}
    await house.ask(home, n.DELIVERY_REPORT_REQUEST, {**report, m.DELIVERY: [("door", "ble", 4, 7)]})
    assert shown(house, "door").link == "ble"
    await house.leave(home, "door", "light")
    await house.join(home, "door", "light")
    door = shown(house, "door")
    assert (door.report, door.confirmed, door.link, door.tries, door.confirmed_at) == ("", 0, "", 0, 0)


def shown(house: House, pne_id: str) -> StoredMember:
    """The board as an operator sees it in the group "light"."""
    (found,) = [member for member in house.server.show_group("light").members if member.pne_id == pne_id]
    return found
