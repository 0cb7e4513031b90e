"""No key goes out before the PN GW knows who left: revisions of the list of members (SEC-06, CPNS-GKM-27)."""

import asyncio

import pytest

from cpns import messages, numbers
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from tests.unit.gateway_world import PN, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


@pytest.mark.req("SEC-06")
async def test_a_key_waits_until_the_gateway_knows_who_left(world):
    """The list is lost, the key of reason leave arrives: it is not delivered to the one who left."""
    boards = [await world.board(f"b{i}", "light") for i in range(4)]
    group = world.server.group("light")
    group.members[PN].discard("b0")
    group.revision[PN] += 1
    await world.server.rekey("light")
    await asyncio.sleep(0.05)
    assert not world.air and not any(board.heard_unicast for board in boards)
    await world.server.inventory("light")
    await world.delivered("light")
    assert world.air and all(boards[0].opens(frame, "light") is None for frame in world.air)
    assert [board.version("light") > 0 for board in boards] == [False, True, True, True]


@pytest.mark.req("SEC-06")
@pytest.mark.parametrize("again", ["join", "leave"])
async def test_a_request_that_changes_nothing_does_not_stand_for_a_list_that_is_missing(world, again):
    """The Server's answer to a board that joins or leaves once more counts the removal whose list is on its way."""
    lamp, other = await world.board("lamp", "light"), await world.board("other", "light")
    if again == "leave":
        await other.leave("light")
    group = world.server.group("light")
    group.members[PN].discard("lamp")
    group.revision[PN] += 1
    await getattr(other, again)("light")
    assert world.store.inventory.is_behind("light")
    await world.server.rekey("light")
    assert messages.GROUP_KEY not in await lamp.pull("light", version=0)
    await world.server.inventory("light")
    assert (await lamp.pull("light"))[messages.ERROR] == numbers.ERROR_NOT_MEMBER


@pytest.mark.req("SEC-06")
async def test_a_leave_that_is_told_twice_does_not_stand_for_a_list_that_is_missing(world, monkeypatch):
    """The Server has counted it the first time, when its answer was lost; what it counts since is another removal."""
    lamp, _, _ = [await world.board(name, "light") for name in ("lamp", "door", "other")]
    answer, told = world.server.answer, []

    async def lost(pn_id, message):
        told.append(await answer(pn_id, message))
        raise NoAnswer("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(world.server, "answer", lost)
        world.gateway.administration.retire_pne("door", Cause.LOST)
        await world.until(lambda: told)
    await world.server.inventory("light")
    group = world.server.group("light")
    group.members[PN].discard("lamp")
    group.revision[PN] += 1
    await world.gateway.tick()
    assert world.store.inventory.is_behind("light")
    await world.server.rekey("light")
    assert messages.GROUP_KEY not in await lamp.pull("light", version=0)


@pytest.mark.req("SEC-06")
async def test_a_leave_that_a_list_has_told_does_not_stand_for_a_list_that_is_missing(world):
    """The Server has counted it with the retirement of the name; what it counts since is another removal."""
    lamp, _, _ = [await world.board(name, "light") for name in ("lamp", "door", "other")]
    group = world.server.group("light")

    def put_out(name):
        group.members[PN].discard(name)
        group.left.add(name)
        group.revision[PN] += 1

    world.server.up = False
    world.gateway.administration.retire_pne("door", Cause.LOST)
    put_out("door")
    await world.server.inventory("light")
    put_out("lamp")
    world.server.up = True
    await world.gateway.tick()
    assert world.store.inventory.is_behind("light")
    await world.server.rekey("light")
    assert messages.GROUP_KEY not in await lamp.pull("light", version=0)


@pytest.mark.req("SEC-06")
async def test_nobody_pulls_a_key_before_the_gateway_knows_who_left(world):
    """The key made because of the leave comes before the list: who asks gets no key, and keeps a floor to get it by."""
    lamp, other = await world.board("lamp", "light"), await world.board("other", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    before = world.server.group("light").version
    group = world.server.group("light")
    group.members[PN].discard("lamp")
    group.revision[PN] += 1
    version = await world.server.rekey("light")
    for board, held in ((lamp, before), (lamp, 0), (other, before), (other, 0)):
        answer = await board.pull("light", version=held)
        assert messages.GROUP_KEY not in answer
        assert answer[messages.VERSION] == version - 1  # as a floor it lets the key in
    assert (await other.pull("light", version=version))[messages.VERSION] == version
    await world.server.inventory("light")
    assert (await lamp.pull("light"))[messages.ERROR] == numbers.ERROR_NOT_MEMBER
    await world.delivered("light")
    assert other.version("light") == version > lamp.version("light")


@pytest.mark.req("SEC-06")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("by_broadcast", [True, False])
async def test_a_delivery_rests_while_a_revision_is_missing(world, by_broadcast, restarted):
    """An expulsion is on its way to the PN GW, which learns of it by the number in another board's JoinResponse."""
    boards = [await world.board(f"b{i}", "light", gkdk=by_broadcast) for i in range(4)]
    for board in boards:
        board.deaf, board.reachable = True, False
    version = await world.server.rekey("light")
    await world.until(
        lambda: world.gateway.administration.delivery("light")[1].get("sent" if by_broadcast else "pending")
    )
    group = world.server.group("light")
    group.members[PN].discard("b0")
    group.revision[PN] += 1
    await world.board("late", "light")
    world.air.clear()
    for board in boards:
        board.deaf, board.reachable = False, True
    await asyncio.sleep(0.1)
    assert not world.air and not any(board.heard_unicast for board in boards)
    if restarted:  # it is remembered
        await world.restart()
        await asyncio.sleep(0.05)
        assert not world.air and not any(board.heard_unicast for board in boards)
    await world.server.inventory("light")
    await world.delivered("light")
    assert [board.version("light") == version for board in boards] == [False, True, True, True]
    assert all(boards[0].opens(frame, "light") is None for frame in world.air)


@pytest.mark.req("SEC-06")
async def test_a_list_that_is_missing_is_asked_for(world):
    await world.board("a", "light")
    world.server.group("light").revision[PN] += 1
    await world.board("b", "light")
    asked = len(world.server.heard)
    world.clock.ahead += 6
    await world.gateway.tick()
    listed = [fields for code, fields in world.server.heard[asked:] if code == numbers.VERSION_LIST_REQUEST]
    assert listed[0][messages.VERSION_ENTRY] == [(0, "light")]
