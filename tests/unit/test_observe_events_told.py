"""What a PN GW tells of a delivery, of alarms and of its uplink, where it happens and after it was stored."""

import sqlite3
from dataclasses import replace

import pytest

from cpns import delivery_report
from gateway_agent.core import events
from gateway_agent.core.alarms import Alarms
from gateway_agent.core.server_silence import ServerSilence
from tests.unit.gateway_world import FAST, Clock, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw", pacing=replace(FAST, answer_s=3600.0)).start()
    yield world
    await world.close()


def of_kind(world, *kinds):
    return [each for each in world.told if isinstance(each, kinds)]


@pytest.mark.req("Q-08")
async def test_each_confirmation_is_told_with_link_and_tries_between_broadcast_and_end(world):
    for i in range(4):
        await world.board(f"b{i}", "light")
    await world.board("plain", "light", gkdk=False)
    await world.server.rekey("light")
    await world.delivered("light")
    await world.until(lambda: of_kind(world, events.KeyDelivered))
    version = world.server.group("light").version
    told = of_kind(world, events.BroadcastSent, events.KeyConfirmed, events.KeyDelivered)
    assert of_kind(world, events.BroadcastSent) == [events.BroadcastSent("light", version, ("scripted",))]
    by_broadcast = {events.KeyConfirmed(f"b{i}", "light", version, delivery_report.WIFI, 1) for i in range(4)}
    plain = events.KeyConfirmed("plain", "light", version, delivery_report.UNICAST, 1)
    assert set(of_kind(world, events.KeyConfirmed)) == by_broadcast | {plain}
    assert len(of_kind(world, events.KeyConfirmed)) == 5 and isinstance(told[-1], events.KeyDelivered)


async def test_a_board_that_is_not_reached_is_told_once_and_so_is_its_late_confirmation(tmp_path):
    world = await World(tmp_path / "gw").start()
    await world.board("lamp", "light")
    ghost = await world.board("ghost", "light", gkdk=False)
    ghost.reachable = False
    version = await world.server.rekey("light")
    await world.delivered("light")
    await world.until(lambda: of_kind(world, events.KeyDelivered))
    assert of_kind(world, events.BoardUnreachable) == [events.BoardUnreachable("ghost", "light", version)]
    ghost.reachable = True
    await ghost.pull("light")
    await ghost.pull("light", version)  # it says that it has this version
    await world.until(lambda: len(of_kind(world, events.KeyConfirmed)) == 2)
    assert of_kind(world, events.KeyConfirmed)[-1].pne_id == "ghost"
    await world.close()


async def test_what_cannot_be_stored_is_not_told(world):
    board = await world.board("lamp", "light")
    board.deaf = True
    await world.server.rekey("light")
    await world.until(lambda: world.air)
    with world.full_disk():
        group = world.server.group("light")
        proven = world.gateway._deliveries.proven("light", group.version, "lamp")
        assert proven is not None
        world.gateway._deliveries._runs["light"].batch.flush()
        await world.until(proven.done)
        assert proven.exception() is not None and not of_kind(world, events.KeyConfirmed)


def test_an_alarm_is_told_when_it_begins_and_when_it_ends():
    told = []
    alarms = Alarms("gw", Clock(), told.append)
    alarms.set("network", "wlan0 is gone", "wlan0")
    alarms.set("network", "wlan0 is gone still", "wlan0")
    alarms.clear("network", "wlan0")
    alarms.clear("network", "wlan0")
    assert told == [
        events.AlarmBegan("network", "wlan0", "wlan0 is gone"),
        events.AlarmEnded("network", "wlan0", "wlan0 is gone still"),
    ]


@pytest.mark.parametrize("is_elsewhere", [True, False])
async def test_the_uplink_is_told_when_it_changes(is_elsewhere):
    told = []
    silence = ServerSilence(
        is_elsewhere=is_elsewhere,
        stale_after_s=0,
        alarms=Alarms("gw", Clock()),
        clock=Clock(),
        withhold=lambda: None,
        resume=lambda: None,
        tell=told.append,
    )
    assert silence.is_up is not is_elsewhere
    silence.answered()
    silence.answered()
    silence.failed("no route")
    silence.failed("no route")
    assert silence.is_up is not is_elsewhere
    silence.answered()
    assert silence.is_up
    down = events.UplinkDown("no route")
    assert told == ([events.UplinkUp(), down, events.UplinkUp()] if is_elsewhere else [])


async def test_times_of_a_delivery_are_stored_and_a_store_of_before_has_none(tmp_path):
    world = await World(tmp_path / "gw").start()
    await world.board("lamp", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    at = world.clock.unix_time
    newest = world.store.deliveries.all()[0]
    assert (newest.arrived_at, newest.began_at, newest.ended_at) == (at, at, at)
    await world.close()
    with sqlite3.connect(tmp_path / "gw" / "gateway.db") as old:
        for column in ("arrived_at", "began_at", "ended_at"):
            old.execute(f"ALTER TABLE delivery DROP COLUMN {column}")
        old.execute("ALTER TABLE pne DROP COLUMN heard_link")
        for table in ("update_offer", "update_target", "update_report"):
            old.execute(f"DROP TABLE {table}")
        old.execute("PRAGMA user_version = 8")
    world.open()
    await world.start()
    newest = world.store.deliveries.all()[0]
    assert (newest.phase, newest.arrived_at, newest.began_at, newest.ended_at) == ("finished", 0, 0, 0)
    assert world.store.deliveries.outcomes("light", newest.version)["lamp"].state == "confirmed"
    assert [pne.heard_link for pne in world.store.pn.shown().values()] == [""]
    await world.server.rekey("light")
    await world.delivered("light")
    assert world.store.deliveries.all()[0].ended_at == at
    await world.close()
