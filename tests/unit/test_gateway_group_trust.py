"""End-to-end groups at the PN GW: it knows their members, and never has a key of them (SEC-26)."""

import os

import pytest

from cpns import messages, numbers
from gateway_agent.core.restore import restore
from gateway_agent.store.store import GatewayStore
from tests.unit.gateway_world import PN, World

SG = "alarm"


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


async def end_to_end(world, *pne_ids):
    group = world.server.group(SG)
    group.end_to_end, group.version, group.key = True, 65537, os.urandom(16)
    return [await world.board(pne_id, SG) for pne_id in pne_ids]


def is_end_to_end(world):
    return world.store.inventory.group_or_deleted(SG).end_to_end


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize("code", [numbers.JOIN_REQUEST, numbers.CREATE_SERVICE_GROUP_REQUEST])
async def test_trust_goes_up_with_the_request_and_comes_back_with_the_answer(world, code):
    board = await world.board("lamp")
    world.server.group(SG).end_to_end = True
    wish = {messages.PNE_ID: "lamp", messages.SG_ID: SG, messages.TRUST: numbers.TRUST_END_TO_END}
    answer = await board.ask(code, wish)
    assert answer[messages.TRUST] == numbers.TRUST_END_TO_END
    assert world.server.heard[-1] == (code, wish | {messages.PN_ID: PN})
    assert is_end_to_end(world)


async def test_a_group_without_trust_is_as_before(world):
    board = await world.board("lamp")
    assert messages.TRUST not in await board.join(SG)
    await world.server.inventory(SG)
    assert not is_end_to_end(world)
    version = await world.server.rekey(SG)
    await world.delivered(SG)
    assert board.version(SG) == version and not world.gateway.administration.carried(SG)


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize("by", ["join", "inventory", "wrapped key"])
async def test_trust_is_learnt_once_and_stays(world, by):
    """Of a group that had keys of this PN GW before, too: they are erased, and none comes back."""
    board = await world.board("lamp", SG)
    await world.server.rekey(SG)
    await world.delivered(SG)
    airs, group = len(world.air), world.server.group(SG)
    group.end_to_end = True
    if by == "join":
        await board.join(SG)
    elif by == "inventory":
        await world.server.inventory(SG)
    else:
        group.version += 1
        await world.server.wrap(SG, "lamp")
    assert is_end_to_end(world) and world.store.group_keys.newest(SG) is None and not world.store.inventory.gkek(SG)
    group.end_to_end = False
    await board.join(SG)
    await world.server.inventory(SG)
    assert is_end_to_end(world)
    group.version += 1
    refused = await world.server.send_key(SG)
    assert (refused[messages.RESULT], refused[messages.ERROR]) == ("2", numbers.ERROR_NOT_ALLOWED)
    deletion = {messages.SG_ID: SG, messages.VERSION: group.version}
    await world.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, deletion)
    group.version += 1
    assert (await world.server.send_key(SG))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    await board.join(SG)
    assert is_end_to_end(world) and world.gateway.counters["keys_past_trust"] == 2
    await world.restart()
    assert is_end_to_end(world) and (await world.server.send_key(SG))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    assert len(world.air) == airs


@pytest.mark.req("SEC-26")
async def test_a_delivery_that_is_under_way_ends_when_trust_is_learnt(world):
    board = await world.board("lamp", SG, gkdk=False)
    board.reachable = False
    version = await world.server.rekey(SG)
    await world.until(lambda: world.gateway.counters["unicast_failed"])
    assert world.gateway.administration.delivery(SG)[0] == version
    world.server.group(SG).end_to_end = True
    await world.server.inventory(SG)
    assert world.gateway.administration.delivery(SG)[0] == 0 and not world.store.deliveries.get(SG, version)
    board.reachable = True
    await board.pull(SG)
    await world.gateway.tick()
    assert not board.version(SG)


@pytest.mark.req("SEC-26")
async def test_a_1_0_delivery_is_refused_with_nothing_sent_or_stored(world):
    (board,) = await end_to_end(world, "lamp")
    refused = await world.server.send_key(SG)
    assert (refused[messages.RESULT], refused[messages.ERROR]) == ("2", numbers.ERROR_NOT_ALLOWED)
    assert world.gateway.counters["keys_past_trust"] == 1
    assert world.store.group_keys.newest(SG) is None and not world.store.deliveries.in_phase("waiting")
    assert not world.air and not world.beacons and not board.heard_unicast


@pytest.mark.req("SEC-26", "CPNS-GKM-27")
async def test_there_is_no_gkek_broadcast_beacon_or_signed_delete_of_it(world):
    lamp, plug = await end_to_end(world, "lamp", "plug")
    plug.reachable = False
    for pne_id in ("lamp", "plug"):
        await world.server.wrap(SG, pne_id)
    await world.until(lambda: world.gateway.counters["carried_responses"])
    await world.until(lambda: world.server.reports)
    world.gateway.administration.new_generation()
    await world.gateway.tick()
    assert not world.store.inventory.gkek(SG)
    signed = world.signer.signed
    deletion = {messages.SG_ID: SG, messages.VERSION: 65538}
    await world.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, deletion)
    await world.until(lambda: lamp.heard_unicast[-1][0] == numbers.DELETE_SERVICE_GROUP_REQUEST)
    assert not world.air and not world.beacons and world.signer.signed == signed


@pytest.mark.req("SEC-26")
async def test_a_pull_is_passed_to_the_server_and_has_its_version_and_no_key(world):
    (board,) = await end_to_end(world, "lamp")
    answer = await board.pull(SG)
    assert answer[messages.VERSION] == 65537 and messages.GROUP_KEY not in answer
    asked = {messages.SG_ID: SG, messages.VERSION: 0, messages.PNE_ID: "lamp", messages.PN_ID: PN}
    assert world.server.heard[-1] == (numbers.KEY_PULL_REQUEST, asked)
    await board.ask(numbers.KEY_PULL_REQUEST, asked | {messages.WINDOWS_LOST: 65537})
    assert world.server.heard[-1][1][messages.WINDOWS_LOST] == 65537


@pytest.mark.req("SEC-26")
async def test_a_key_in_the_answer_to_a_pull_is_dropped_and_counted(world):
    (board,) = await end_to_end(world, "lamp")
    answer = world.server.answer

    async def careless(pn_id, message):
        code, _ = messages.decode(message)
        if code != numbers.KEY_PULL_REQUEST:
            return await answer(pn_id, message)
        more = {messages.RESULT: "1", messages.SG_ID: SG, messages.VERSION: 65537}
        return messages.encode(code + 1, more | {messages.GROUP_KEY: [(bytes(16), None)]})

    world.server.answer = careless
    assert messages.GROUP_KEY not in await board.pull(SG)
    assert world.gateway.counters["keys_past_trust"] == 1


@pytest.mark.req("SEC-19")
async def test_pulls_for_it_stay_within_the_limit_of_the_uplink(world):
    (board,) = await end_to_end(world, "lamp")
    answers = [await board.pull(SG) for _ in range(30)]
    assert answers[-1][messages.ERROR] == numbers.ERROR_TOO_MANY
    assert sum(code == numbers.KEY_PULL_REQUEST for code, _ in world.server.heard) < 25


@pytest.mark.req("SEC-02", "SEC-34")
async def test_what_its_members_hold_is_no_reason_to_stop(world):
    """The Server gives them their keys, so they may know more than this PN GW; receipts prove what it carried."""
    (board,) = await end_to_end(world, "lamp")
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    world.server.group(SG).accepted[PN] = 65537
    await board.pull(SG, version=65999)
    await world.gateway._housekeeping._versions.exchange()
    assert not world.gateway.administration.alarms() and world.gateway.administration.stop_reason is None
    listed = [fields for code, fields in world.server.heard if code == numbers.VERSION_LIST_REQUEST][-1]
    assert listed[messages.VERSION_ENTRY] == [(65537, SG)]
    with world.store.transaction():  # an old copy
        world.store.database.execute("UPDATE service_group SET version = 65536")
    await board.pull(SG)
    assert "receipt" in world.gateway.administration.stop_reason


@pytest.mark.req("SEC-06")
async def test_it_is_exposed_from_a_leave_to_the_next_wrapped_key(world):
    _, plug = await end_to_end(world, "lamp", "plug")
    await world.server.wrap(SG, "lamp")
    await plug.leave(SG)
    assert world.store.inventory.group(SG).exposed
    world.server.group(SG).version += 1
    await world.server.wrap(SG, "lamp")
    assert not world.store.inventory.group(SG).exposed


@pytest.mark.req("SEC-06")
async def test_it_is_not_exposed_if_the_newer_key_came_before_the_list_of_members(world):
    await end_to_end(world, "lamp", "plug")
    for pne_id in ("lamp", "plug"):
        await world.server.wrap(SG, pne_id)
    world.server.group(SG).version += 1
    await world.server.wrap(SG, "lamp")
    await world.server.expel(SG, "plug")
    assert not world.store.inventory.group(SG).exposed
    await world.server.expel(SG, "lamp")
    assert world.store.inventory.group(SG).exposed


@pytest.mark.req("SEC-02", "SEC-26")
async def test_a_restored_gateway_still_knows_it_and_waits_for_its_members_only(tmp_path):
    world = await World(tmp_path / "gw").start()
    await end_to_end(world, "lamp")
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    image = world.store.image()
    await world.close()
    (tmp_path / "gw" / "gateway.db").write_bytes(image)
    for left in ("gateway.db-wal", "gateway.db-shm"):
        (tmp_path / "gw" / left).unlink(missing_ok=True)
    store = GatewayStore(tmp_path / "gw", restoring=True)
    restore(store, os.urandom, height=6, unix=1_800_000_000)
    group = store.inventory.group(SG)
    assert group.end_to_end and group.waiting and group.version == 65537
    store.close()
    world.open()
    await world.start()
    assert (await world.server.send_key(SG))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    await world.server.inventory(SG)
    assert not world.store.inventory.group(SG).waiting
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    await world.close()


@pytest.mark.req("SEC-26")
async def test_a_group_of_a_gateway_from_before_trust_keeps_its_way(tmp_path):
    import sqlite3

    world = await World(tmp_path / "gw").start()
    await world.board("lamp", "light")
    await world.close()
    with sqlite3.connect(tmp_path / "gw" / "gateway.db") as old:
        old.execute("ALTER TABLE service_group DROP COLUMN end_to_end")
        later = {
            "recipient": ("link", "tries", "confirmed_at"),
            "delivery": ("arrived_at", "began_at", "ended_at"),
            "pne": ("heard_link",),
        }
        for table, columns in later.items():
            for column in columns:
                old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in ("update_offer", "update_target", "update_report"):
            old.execute(f"DROP TABLE {table}")
        old.execute("PRAGMA user_version = 6")
    world.open()
    await world.start()
    await world.server.rekey("light")
    await world.delivered("light")
    await world.close()
