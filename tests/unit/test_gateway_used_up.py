"""Counters of a PN GW that have run out: a request for one more is refused in words and by a code, the rest goes on."""

import os

import pytest

from cpns import messages, numbers
from cpns.errors import TooMany
from gateway_agent.core.gkdk import generations
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.restore import restore
from gateway_agent.store.store import GatewayStore
from tests.unit.gateway_world import PN, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw", height=4).start()
    yield world
    await world.close()


def use_up(world, column, value):
    with world.store.transaction():
        world.store.database.execute(f"UPDATE pn SET {column} = {value}")


@pytest.mark.req("SEC-08")
async def test_when_all_aliases_are_used_up_nobody_is_admitted_to_another_group(world):
    lamp = await world.board("lamp", "light")
    use_up(world, "next_sg_alias", 0x10000)
    heard = len(world.server.heard)
    for code in (numbers.JOIN_REQUEST, numbers.CREATE_SERVICE_GROUP_REQUEST):
        answer = await lamp.join("door", code)
        assert (answer[messages.RESULT], answer[messages.ERROR]) == ("2", numbers.ERROR_TOO_MANY)
        assert "used up" in answer[messages.ERROR_TEXT] and "set up anew" in answer[messages.ERROR_TEXT]
    assert len(world.server.heard) == heard  # the Server has not admitted it either
    world.server.group("door").members[PN] = {"lamp"}
    assert (await world.server.inventory("door"))[messages.ERROR] == numbers.ERROR_TOO_MANY
    world.server.group("door").version, world.server.group("door").key = 0x10001, bytes(16)
    assert (await world.server.send_key("door"))[messages.ERROR] == numbers.ERROR_TOO_MANY
    assert (await world.board("other", "light")).aliases["light"] == 1
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert lamp.version("light") == version


@pytest.mark.req("SEC-07")
async def test_when_all_generations_are_used_up_the_last_one_goes_on_and_so_does_the_house_keeping(world):
    for number in range(8):
        await world.board(f"b{number}", "light")
    use_up(world, "last_generation", generations.GENERATION_MAX)
    for number in range(4):
        world.gateway.administration.retire_pne(f"b{number}", Cause.LOST)
    await world.gateway.tick()
    assert world.store.slots.current().generation == 1
    left = {fields[messages.PNE_ID] for code, fields in world.server.heard if code == numbers.LEAVE_REQUEST}
    assert left == {"b0", "b1", "b2", "b3"}
    with pytest.raises(TooMany, match="set up anew"):
        world.gateway.administration.new_generation()
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert world.boards["b7"].version("light") == version


@pytest.mark.req("SEC-02")
async def test_a_restore_without_a_generation_left_refuses_before_anything_is_gone(world):
    await world.board("lamp", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    use_up(world, "last_generation", generations.GENERATION_MAX - 255)
    await world.close()
    store = GatewayStore(world.folder, restoring=True)
    with pytest.raises(TooMany, match="set up anew"):
        restore(store, os.urandom, height=4, unix=0)
    assert store.pn.get().stopped is None and store.group_keys.newest("light") and store.tree_masters.generations()
    with store.transaction():
        store.database.execute(f"UPDATE pn SET last_generation = {generations.GENERATION_MAX - 256}")
    assert restore(store, os.urandom, height=4, unix=0).generation == generations.GENERATION_MAX  # the last one
    store.close()
    world.open()


@pytest.mark.req("CPNS-GKM-25")
async def test_more_pnes_than_the_largest_tree_has_slots_for_leave_the_rest_to_unicast(world, monkeypatch):
    monkeypatch.setattr(generations, "HEIGHT_MAX", 4)
    for number in range(20):
        await world.board(f"b{number:02}", gkdk=number < 16)
    answer = await world.boards["b16"].get_gkdk()
    assert (answer[messages.ERROR], answer[messages.GKDK]) == (numbers.ERROR_TOO_MANY, b"")
    await world.close()
    store = GatewayStore(world.folder, restoring=True)
    assert len(restore(store, os.urandom, height=4, unix=0).pnes) == 20
    assert store.slots.counts(store.slots.current().generation) == (16, 0)
    store.close()
    world.open()
