"""What a gateway does when an update is offered or withdrawn, when it starts, and when it stops."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.errors import NotAllowed, Unknown
from gateway_agent.core import events
from gateway_agent.updates.status import OfferStatus
from suit import numbers as n
from tests.unit.update_gateway import FIVE, World
from tests.unit.update_world import KEY, id_of, signed

SIX = signed(6)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


def offers(world: World) -> list[OfferStatus]:
    return [each for each in world.updates.status()["offers"] if isinstance(each, OfferStatus)]


async def gone_back(world: World, name: str, number: int) -> None:
    """A board says that it went back from an update."""
    board = world.board(name)
    board.state, board.wanted, board.detail = n.FELL_BACK, number, n.NOT_CONFIRMED
    await board.report()
    await asyncio.sleep(60)
    assert world.alarms


async def test_what_is_offered_and_withdrawn_is_told(world: World) -> None:
    update_id = (await world.offer(FIVE, "lamp", "door")).hex()
    await world.updates.withdraw("5")
    assert world.told == [
        events.UpdateOffered(update_id, "agent", 5, ("door", "lamp"), (), False, ""),
        events.UpdateWithdrawn(update_id, "agent", 5),
    ]


async def test_withdrawn_twice_at_once_is_withdrawn_and_told_once(world: World) -> None:
    await world.offer()
    done = await asyncio.gather(*(world.updates.withdraw() for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in done] == [OfferStatus, Unknown]
    assert sum(isinstance(each, events.UpdateWithdrawn) for each in world.told) == 1
    with pytest.raises(Unknown, match="no update is offered"):
        await world.updates.withdraw()


async def test_two_that_are_offered_at_once_stand_as_if_one_had_come_first(world: World) -> None:
    done = await asyncio.gather(world.offer(FIVE), world.offer(SIX), return_exceptions=True)
    assert [each.number for each in offers(world)] == [6]
    assert done[1] == id_of(SIX) and (done[0] == id_of(FIVE) or isinstance(done[0], NotAllowed))
    assert [path.stem for path in (world.folder / "updates").iterdir()] == [id_of(SIX).hex()]


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize(("key", "is_verified"), [(KEY.public, True), (None, False)])
async def test_an_offer_says_whether_anybody_has_verified_it(tmp_path: Path, key: object, is_verified: bool) -> None:
    world = World(tmp_path, key)  # type: ignore[arg-type]
    await world.offer()
    assert [each.is_verified for each in offers(world)] == [is_verified]
    await world.close()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"sealed": "home/lights"}, "only a broadcast is sealed"),
        ({"sealed": "home/lights", "broadcast": True}, "nothing can be sealed: home/lights waits for a new key"),
        ({"sealed": "home/no", "broadcast": True}, "nothing can be sealed: there is no home/no any more"),
        ({"boards": ["lamp"], "broadcast": True}, "leave out --board and --group"),
        ({"groups": ["home/lights"], "broadcast": True}, "leave out --board and --group"),
    ],
)
async def test_what_cannot_be_offered_so_is_refused(world: World, how: dict[str, object], sentence: str) -> None:
    with pytest.raises(NotAllowed, match=sentence):
        await world.updates.offer(base64.b64encode(FIVE).decode(), **how)  # type: ignore[arg-type]
    assert offers(world) == [] and world.told == []


async def test_a_newer_update_ends_the_alarm_and_the_turns_of_the_older_one(world: World) -> None:
    await world.offer()
    await gone_back(world, "lamp", 5)
    await world.offer(SIX)
    assert world.alarms == {}


async def test_a_group_that_is_deleted_ends_the_alarm_of_what_it_was_offered(world: World) -> None:
    await world.offer(FIVE, group="home/lights")
    await gone_back(world, "lamp", 5)
    with world.store.transaction():
        world.store.inventory.mark_deleted("home/lights")
    world.tell(events.GroupDeleted("home/lights"))
    await asyncio.sleep(0.1)
    assert world.alarms == {} and offers(world) == []


async def test_what_a_board_that_is_retired_has_said_leaves_the_store_at_once(world: World) -> None:
    await world.board("lamp").report()
    await asyncio.sleep(60)
    assert [each.pne_id for each in world.store.updates.reports()] == ["lamp"]
    with world.store.transaction():
        world.store.pn.set_retired("lamp")
    world.tell(events.Retired("lamp", "lost", ()))
    await asyncio.sleep(0.1)
    assert world.store.updates.reports() == []


async def test_a_datagram_that_is_under_way_is_taken_back_when_its_update_is_withdrawn(world: World) -> None:
    await world.offer(broadcast=True)
    while len(world.medium.begun) == len(world.medium.left):
        await asyncio.sleep(0.001)
    await world.updates.withdraw()
    left = len(world.medium.left)
    await asyncio.sleep(60)
    assert len(world.medium.left) == left and len(world.medium.taken_back) == 1


@pytest.mark.parametrize("key", [KEY.public, None])
async def test_at_its_start_it_asks_boards_that_lack_its_key_or_an_update(tmp_path: Path, key: object) -> None:
    world = World(tmp_path, key)  # type: ignore[arg-type]
    for name, agent_number, has_key in (("lamp", 5, False), ("door", 5, True)):
        board = world.board(name, key=KEY.public.octets if has_key else b"")
        board.agent_number = agent_number
        await board.report()
    await world.close()
    world.open()
    await asyncio.sleep(1)
    assert world.asked == (["lamp"] if key else [])
    await world.offer(SIX, "door")
    await asyncio.sleep(1)
    world.asked.clear()
    await world.close()
    world.open()
    await asyncio.sleep(1)
    assert world.asked == (["door", "lamp"] if key else ["door"])
    await world.close()


async def test_nothing_is_done_after_the_close(world: World) -> None:
    await world.offer(broadcast=True)
    await asyncio.sleep(2)
    world.asked.clear()
    await world.offer()  # asks all of them again
    await world.updates.close()
    assert world.asked == []
    begun = len(world.medium.begun)
    lamp = world.board("lamp")
    lamp.state, lamp.wanted, lamp.detail = n.FELL_BACK, 5, n.NOT_CONFIRMED
    await lamp.report()
    await asyncio.sleep(600)
    assert len(world.medium.begun) == begun and world.asked == [] and world.alarms == {}
    assert begun and offers(world)[0].aired_percent < 100
