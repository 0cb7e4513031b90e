"""GKDKs and the generations of their tree (CPNS-GKM-25, -26, -73, -74, SEC-07, SEC-19)."""

import pytest

from cpns import messages, numbers
from cpns.broadcast_encryption.keys import TreeKeys
from gateway_agent.core.gkdk import generations
from gateway_agent.core.gkdk.generations import DAY_S
from gateway_agent.core.groups.membership import Cause
from tests.unit.gateway_world import Server, World


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path / "gw", height=5)
    yield world
    await world.close()


async def days(world, count, *, unix=True):
    """Time goes on, with housekeeping once an hour at most."""
    for _ in range(count):
        world.clock.ahead += DAY_S
        if unix:
            world.clock.unix_time += DAY_S
        await world.gateway.tick()


async def settled(world, generation, *pne_ids):
    await world.until(lambda: all(world.store.slots.active(pne_id, generation).delivered for pne_id in pne_ids))


@pytest.mark.req("CPNS-GKM-01", "CPNS-GKM-04", "CPNS-GKM-05", "CPNS-GKM-40")
@pytest.mark.req("CPNS-GKM-25", "CPNS-GKM-26", "CPNS-GKM-73", "CPNS-GKM-74")
async def test_every_pne_of_the_pn_gets_its_own_gkdk_on_request(world):
    boards = [await world.board(f"b{i}") for i in range(5)]
    assert [board.records[0].slot for board in boards] == [0, 1, 2, 3, 4]
    assert len({board.records[0].pack() for board in boards}) == 5


@pytest.mark.req("CPNS-GKM-73")
async def test_records_come_from_a_tree_master_that_is_drawn_at_random(world, tmp_path):
    board = await world.board("lamp")
    secret = world.store.tree_master(1)
    assert board.records[0].pack() == TreeKeys(secret, 5).record(2, 1, 0).pack()
    other = World(tmp_path / "other", server=Server(), height=5)
    await other.board("lamp")
    assert world.gateway.administration.new_generation() == 2
    assert len({secret, world.store.tree_master(2), other.store.tree_master(1)}) == 3
    await other.close()


@pytest.mark.req("SEC-19")
async def test_2000_requests_use_one_slot_and_cause_no_rekey(world):
    board = await world.board("lamp", "light")
    await world.board("other", "light")
    membership = world.store.inventory.group("light").membership
    granted = 1
    for _ in range(1999):
        answer = await board.get_gkdk()
        if answer[messages.RESULT] == numbers.RESULT_SUCCESS:
            granted += 1
        else:
            assert (answer[messages.ERROR], answer[messages.GKDK]) == (numbers.ERROR_TOO_MANY, b"")
    assert granted == 4
    assert len({record.pack() for record in board.records}) == 1
    assert world.store.slots.counts(1) == (2, 0)
    assert world.store.inventory.group("light").membership == membership
    world.clock.ahead += 3601
    assert (await board.get_gkdk())[messages.RESULT] == numbers.RESULT_SUCCESS
    assert not world.air


@pytest.mark.req("SEC-19")
async def test_a_new_credential_gets_a_new_slot_and_the_old_one_is_never_used_again(world):
    await world.board("lamp", "light")
    world.gateway.administration.register_pne("lamp")
    assert not world.store.inventory.is_member("light", "lamp")
    board = await world.board("lamp")
    assert board.records[-1].slot == 1
    other = await world.board("other")
    assert other.records[0].slot == 2
    assert world.store.slots.counts(1) == (2, 1)


@pytest.mark.req("SEC-19")
async def test_joins_and_leaves_are_6_an_hour_beside_first_joins_then_held_for_a_person(world):
    board = await world.board("lamp")
    assert (await board.join("light"))[messages.RESULT] == "1"
    for _ in range(3):
        assert (await board.leave("light"))[messages.RESULT] == "1"
        assert (await board.join("light"))[messages.RESULT] == "1"
    assert (await board.leave("light"))[messages.ERROR] == numbers.ERROR_TOO_MANY
    heard = len(world.server.heard)
    world.clock.ahead += 7200
    assert (await board.join("door"))[messages.ERROR] == numbers.ERROR_TOO_MANY  # held, not only slowed down
    assert len(world.server.heard) == heard
    world.gateway.administration.release_pne("lamp")
    assert (await board.leave("light"))[messages.RESULT] == "1"


@pytest.mark.req("SEC-19")
async def test_a_board_that_is_new_may_join_the_8_groups_it_has_room_for_and_no_crowd(world):
    board = await world.board("lamp")
    for number in range(8 + 6):
        assert (await board.join(f"group {number}"))[messages.RESULT] == "1"
    assert (await board.join("one too many"))[messages.ERROR] == numbers.ERROR_TOO_MANY


async def test_a_preferred_group_gets_a_block_of_its_own(world):
    world.gateway.administration.register_pne("a", "light")
    world.gateway.administration.register_pne("b", "door")
    world.gateway.administration.register_pne("c", "light")
    boards = [await world.board(name) for name in "abc"]
    assert [board.records[0].slot for board in boards] == [0, 8, 1]


@pytest.mark.req("SEC-07")
async def test_a_generation_ends_after_a_year_and_every_board_is_given_a_new_gkdk(world):
    boards = [await world.board(f"b{i}", "light") for i in range(3)]
    await days(world, 364)
    assert world.store.slots.current().generation == 1
    await days(world, 1)
    assert world.store.slots.current().generation == 2
    await settled(world, 2, "b0", "b1", "b2")
    assert [board.records[-1].generation for board in boards] == [2, 2, 2]
    await world.gateway.tick()
    assert world.store.tree_masters.generations() == [2]
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 1


@pytest.mark.req("SEC-07")
@pytest.mark.parametrize("unix", [True, False])
async def test_one_silent_board_keeps_the_old_tree_30_days_and_is_keyed_when_it_comes_back(world, unix):
    if not unix:
        world.clock.unix_time = 0  # never synchronised: running time counts
    for name in ("a", "b", "silent"):
        await world.board(name, "light")
    silent = world.boards["silent"]
    silent.reachable = False
    assert world.gateway.administration.new_generation() == 2
    await world.gateway.tick()
    await settled(world, 2, "a", "b")
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 2  # one object for each generation
    assert silent.version("light") == world.server.group("light").version
    await days(world, 29, unix=unix)
    assert world.store.tree_masters.generations() == [1, 2]
    await days(world, 2, unix=unix)
    assert world.store.tree_masters.generations() == [2]
    sent = len(world.air)
    await world.server.rekey("light")
    await world.delivered("light")
    assert world.air[sent:] and all(silent.opens(frame, "light") is None for frame in world.air[sent:])
    assert world.server.reports[-1][messages.UNREACHABLE] == ["silent"]
    silent.reachable = True
    assert messages.GROUP_KEY in await silent.pull("light", generation=1)
    await settled(world, 2, "silent")
    await world.server.rekey("light")
    await world.delivered("light")
    assert silent.opens(world.air[-1], "light") is not None


@pytest.mark.req("SEC-36")
async def test_a_clock_that_jumps_begins_no_generation_and_ends_none(world):
    for name in ("a", "silent"):
        await world.board(name, "light")
    world.boards["silent"].reachable = False
    assert world.gateway.administration.new_generation() == 2
    real = world.clock.unix_time
    for wrong in (5, real + 366 * DAY_S, 0, real + 31 * DAY_S, 0xFFFFFFFF, real):
        world.clock.unix_time = wrong
        for _ in range(3):
            await world.gateway.tick()
        await world.restart()
    assert world.store.pn.get().last_generation == 2
    assert world.store.tree_masters.generations() == [1, 2]


@pytest.mark.req("SEC-36", "SEC-07")
async def test_what_a_gateway_lived_through_is_counted_also_when_it_is_restarted_before_the_hour(world):
    await world.board("lamp")
    await world.start()
    for _ in range(3):
        world.clock.ahead += 3500
        await world.gateway.tick()
        await world.restart()
    assert 10_500 <= world.store.slots.current().lived_s < 10_800


@pytest.mark.req("SEC-07")
async def test_a_clock_turned_back_does_not_keep_a_generation_alive(world):
    await world.board("lamp")
    world.clock.unix_time = 5
    await days(world, 366, unix=False)
    assert world.store.slots.current().generation == 2


async def test_retired_slots_bring_a_new_generation_without_them(world):
    for i in range(8):
        await world.board(f"b{i}", "light")
    for i in range(4):
        world.gateway.administration.retire_pne(f"b{i}", Cause.LOST)
    await world.gateway.tick()
    current = world.store.slots.current()
    assert (current.generation, world.store.slots.counts(2)) == (2, (4, 0))
    assert sorted(slot.slot for slot in world.store.slots.slots(2)) == [0, 1, 2, 3]


async def test_a_full_tree_grows(world):
    for i in range(30):
        await world.board(f"b{i}")
    await world.gateway.tick()
    current = world.store.slots.current()
    assert (current.generation, current.height) == (2, 6)


async def test_a_tree_that_cannot_grow_is_not_renewed_for_ever(world):
    for i in range(32):
        await world.board(f"b{i}")
    full = world.store.slots.current()
    assert generations.why_new(full, 32, 0) is not None
    largest = full.__class__(1, generations.HEIGHT_MAX, 2, b"", 0.0, 0, False, None)
    assert generations.why_new(largest, largest.size, 0) is None
    assert generations.why_new(largest, largest.size - 10, 10) is not None


async def test_a_board_that_lost_its_gkdk_is_reached_by_unicast(world):
    await world.start()
    for name in ("a", "b", "c"):
        await world.board(name, "light")
    lost = world.boards["c"]
    lost.records.clear()
    await lost.pull("light")
    assert world.store.inventory.member("light", "c").slot is None
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert lost.version("light") == version


@pytest.mark.req("CPNS-GKM-74", "SEC-02")
async def test_a_board_whose_slot_is_not_its_any_more_is_given_another(world):
    """It came in after the backup that was put back, or its credential was registered once more: it will not ask."""
    await world.board("lamp", "light")
    late = await world.board("late", "light")
    old = late.records[-1]
    world.gateway.administration.register_pne("late")
    await late.join("light")
    await late.pull("light")
    await world.until(lambda: len(late.records) == 2)
    assert late.records[-1].slot != old.slot
    assert world.store.slots.active("late", 1).delivered
