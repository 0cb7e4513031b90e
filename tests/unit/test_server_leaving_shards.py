"""A process that no longer works for a PN GW forgets what it had to deliver, in whatever state that was (SEC-23)."""

import asyncio

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.places import Places
from key_servers.cpns_server.shards.all_shards import AllShards
from message_plane.links.mqtt_topics import shard_of
from tests.unit.cpns_server_parts import House, succeeded

SG = "light"


@pytest.mark.parametrize("when", ["waits", "is under way", "is silent", "was heard"])
def test_a_place_that_is_left_is_free_and_nothing_of_its_gateway_waits(when):
    places = Places()
    gone, other = ("pn.gone", SG), ("pn.other", SG)
    places.wait(gone)
    if when != "waits":
        assert places.admit(0.0, 1) == [gone]
    if when == "is silent":
        places.ended(gone, 1.0, answered=False)
        places.wait(gone)
    if when == "was heard":
        places.heard("pn.gone", 1.0)
    assert places.forget("pn.gone") == (gone if when in ("is under way", "was heard") else None)
    assert places.forget("pn.gone") is None and places.taken == 0
    places.wait(other)
    assert places.admit(2.0, 10) == [other] and places.repeat(2.0 + tuning.QUIET_S) == []
    places.wait(gone)
    assert places.admit(3.0, 10) == [gone], "it may come back"


@pytest.fixture
async def house(tmp_path, monkeypatch):
    """A Server with two homes, whose shards can be taken away: `house.lost` has them."""
    lost = set()
    monkeypatch.setattr(AllShards, "holds", lambda self, shard: shard not in lost)
    house = await House.open(tmp_path / "server", ServerConfig(batching_s=0))
    house.lost = lost
    for name in ("home", "office"):
        house.gateway(name)
    house.server.create_group(SG, open_to=["pn.home", "pn.office"])
    for name in ("home", "office"):
        assert succeeded(await house.join(house.gateways[name], f"lamp.{name}", SG))
    await house.work()
    yield house
    await house.server.close()


def newest(house):
    return [house.gateways[name].newest(SG) for name in ("home", "office")]


async def test_what_is_to_be_delivered_to_a_gateway_of_another_process_is_not_delivered_here(house):
    before = newest(house)[1]
    house.lost.add(shard_of("gw.office"))
    house.server._courier.leave_unserved()
    version = house.server.update_key(SG)
    await house.work()
    assert newest(house) == [version, before]
    (delivery,) = [each for each in house.server.show_group(SG).deliveries if each.pn_id == "pn.office"]
    assert (delivery.state, delivery.wanted_version, delivery.failures) == ("waiting", version, 0)
    house.lost.clear()
    house.server._store.look_at_all()
    await house.work()
    assert newest(house) == [version, version]


async def test_a_request_under_way_is_given_up_with_its_shard_and_counts_as_no_failure(house):
    begun, office = asyncio.Event(), house.gateways["office"]

    async def hang(message):
        begun.set()
        await asyncio.Event().wait()

    receive, house.receivers["gw.office"] = house.receivers["gw.office"], hang
    version = house.server.update_key(SG)
    house.server.work()
    await begun.wait()
    house.lost.add(shard_of("gw.office"))
    house.server._courier.leave_unserved()
    await house.server.idle()
    assert house.server._requests._places.taken == 0
    house.receivers["gw.office"] = receive
    house.lost.clear()
    house.server._store.look_at_all()
    await house.work()
    assert office.newest(SG) == version and house.server.alarms() == ()


async def test_a_shard_that_is_lost_before_its_request_departs_sends_nothing(house):
    before = newest(house)[1]
    version = house.server.update_key(SG)
    house.lost.add(shard_of("gw.office"))  # the parts are told a moment later
    await house.work()
    house.server._courier.leave_unserved()
    await house.work()
    assert newest(house) == [version, before]


async def test_the_silence_of_a_gateway_of_another_process_is_no_alarm_here(house):
    house.lost.add(shard_of("gw.office"))
    house.server.work()
    house.clock.advance(tuning.VERSION_LIST_OVERDUE_S + 1)
    house.server.work()
    assert [alarm.gateway_id for alarm in house.server.alarms()] == ["gw.home"]
    house.lost.add(shard_of("gw.home"))
    house.server._alarms.forget_unless(lambda gateway_id: shard_of(gateway_id) not in house.lost)
    assert house.server.alarms() == ()
