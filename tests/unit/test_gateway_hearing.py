"""Broadcasts that no board hears raise an alarm: the access point isolates its clients, or a mesh filters."""

from dataclasses import replace

import pytest

from gateway_agent.core.alarms import Alarms
from gateway_agent.core.delivering.hearing import Hearing
from tests.unit.gateway_world import FAST, Clock, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw", pacing=replace(FAST, straggler_limit=3, first_answer=1.0)).start()
    for name in ("a", "b", "c"):
        await world.board(name, "light")
    yield world
    await world.close()


async def rekey(world, *hearing):
    """A key for all, of which only `hearing` hear the broadcast."""
    for name, board in world.boards.items():
        board.deaf = name not in hearing
    await world.server.rekey("light")
    await world.delivered("light")
    assert all(board.version("light") == world.server.group("light").version for board in world.boards.values())


async def test_three_deliveries_of_which_nobody_heard_a_broadcast_are_an_alarm_until_one_is_heard(world):
    for _ in range(2):
        await rekey(world)
        assert not world.gateway.administration.alarms()
    await rekey(world)
    (alarm,) = world.gateway.administration.alarms()
    assert alarm.kind == "unheard" and "3 deliveries" in alarm.text and "isolation" in alarm.text
    await rekey(world)
    assert "4 deliveries" in world.gateway.administration.alarms()[0].text
    await rekey(world, "b")
    assert not world.gateway.administration.alarms()
    for _ in range(2):  # it begins to count anew
        await rekey(world)
    assert not world.gateway.administration.alarms()


async def test_boards_that_pull_have_not_heard_the_broadcast_either(world):
    for _ in range(3):
        for board in world.boards.values():
            board.deaf, board.reachable = True, False
        sent = len(world.air)
        version = await world.server.rekey("light")
        await world.until(lambda sent=sent: len(world.air) > sent)
        for board in world.boards.values():
            await board.pull("light")
            await board.confirm("light", version, board.records[-1])
        await world.delivered("light")
    assert [alarm.kind for alarm in world.gateway.administration.alarms()] == ["unheard"]


async def test_one_board_that_hears_one_that_is_away_and_media_that_are_down_are_no_alarm(world):
    for _ in range(4):
        await rekey(world, "a")
    for board in world.boards.values():
        board.deaf, board.reachable = True, False
    for _ in range(4):
        await world.server.rekey("light")
        await world.delivered("light")
    for board in world.boards.values():
        board.reachable = True
    world.medium.up = False
    for _ in range(4):
        await rekey(world)
    assert not world.gateway.administration.alarms()


def test_each_network_is_judged_by_the_boards_behind_it():
    alarms = Alarms("gw", Clock())
    hearing = Hearing(alarms, lambda pne_id: {"w": "wlan0", "e": "eth0"}.get(pne_id[0], ""))
    for _ in range(3):
        hearing.heard("e1")
        hearing.judge({"w1": False, "w2": False, "e1": True, "e2": False})
    (alarm,) = alarms.standing()
    assert "on wlan0" in alarm.text
    hearing.heard("e1")
    assert alarms.standing()
    hearing.heard("w2")
    assert not alarms.standing()
