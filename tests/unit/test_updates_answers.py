"""What boards are answered, and how much one of them and all together may ask for."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.cborlite import encode
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, TooMany, Unknown
from gateway_agent.core import events
from gateway_agent.store.errors import StoreFailed
from gateway_agent.updates import board_reports, failures, limits
from suit import numbers as n
from tests.unit.gateway_world import Clock
from tests.unit.update_gateway import FRAME_KEY, World
from tests.unit.update_world import AGENT_ID, FIRMWARE_ID, KEY, id_of, image, signed

IMAGE = image(9000)
FIVE = signed(5, IMAGE)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def test_a_board_pulls_what_it_is_offered_and_has_it(world: World) -> None:
    lamp = world.board("lamp")
    assert await lamp.report() == b""
    update_id = await world.offer()
    assert await lamp.report() == update_id and lamp.wait_s == 0
    assert await lamp.finish() == IMAGE
    assert await lamp.report() == b""
    assert events.BoardUpdated("lamp", "agent", 5) in world.told
    assert lamp.pulled == 1 + 1 + 9
    assert world.counters["update_pieces"] == 11 and world.counters["update_reports"] == 3


async def test_boards_with_a_session_are_asked_when_there_is_an_offer_and_when_it_is_withdrawn(world: World) -> None:
    await world.offer()
    await asyncio.sleep(1)
    assert sorted(world.asked) == ["door", "lamp"]
    world.asked.clear()
    await world.updates.withdraw()
    await asyncio.sleep(1)
    assert sorted(world.asked) == ["door", "lamp"]


async def test_a_board_of_another_class_is_not_asked(world: World) -> None:
    await world.board("lamp", classes=(FIRMWARE_ID,)).report()
    await world.offer()
    await asyncio.sleep(1)
    assert world.asked == ["door"]


async def test_a_silent_board_holds_up_no_other_one(world: World) -> None:
    with world.store.transaction():
        for at in range(20):
            world.store.pn.register(f"silent{at:02}", 1)
    world.silent = {f"silent{at:02}" for at in range(3)}
    await world.offer()
    await asyncio.sleep(2)
    assert len(world.asked) == 22


async def test_a_board_without_a_key_is_given_it(world: World) -> None:
    lamp, door = world.board("lamp", key=b""), world.board("door", key=b"k" * 64)
    await lamp.report()
    await door.report()
    assert lamp.key == KEY.public.octets and door.key == b"k" * 64


async def test_groups_and_boards_are_offered_what_is_for_them(world: World) -> None:
    update_id = await world.offer(FIVE, group="home/lights")
    lamp, desk = world.board("lamp"), world.board("desk")
    assert (await lamp.report(), await desk.report()) == (update_id, b"")
    desk.offered = update_id
    with pytest.raises(NotAllowed, match="not for this board"):
        await desk.piece(n.ENVELOPE, 0)
    await world.offer(FIVE, "desk")
    assert await desk.report() == update_id
    with world.store.transaction():
        world.store.inventory.remove_member("home/lights", "lamp")
    assert await lamp.report() == b""


async def test_what_is_withdrawn_is_answered_to_nobody(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    await lamp.piece(n.ENVELOPE, 0)
    await world.updates.withdraw("5")
    with pytest.raises(Unknown, match="not offered"):
        await lamp.piece(n.PAGE, 0)
    assert await lamp.report() == b""
    with pytest.raises(Unknown, match="no update is offered"):
        await world.updates.withdraw()


async def test_withdraw_says_which_updates_there_are(world: World) -> None:
    await world.offer()
    await world.offer(signed(5, kind="firmware"))
    for name in (None, "5"):
        with pytest.raises(NotAllowed, match=id_of(FIVE).hex()):
            await world.updates.withdraw(name)
    with pytest.raises(Unknown, match="no update 6 is offered; those are: 5"):
        await world.updates.withdraw("6")
    await world.updates.withdraw(id_of(FIVE).hex())
    assert (await world.updates.withdraw("5")).kind == "firmware"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x83",
        b"\xff" * 300,
        encode([n.ASK]),
        encode([n.PIECE, id_of(FIVE), n.FRAME, 14]),
        encode([n.PIECE, id_of(FIVE), n.PAGE, 1]),
        encode([n.PIECE, id_of(FIVE), 3, 0]),
        encode([n.PIECE, id_of(FIVE), n.ENVELOPE, 2**40]),
    ],
)
async def test_no_other_octets_are_answered(world: World, octets: bytes) -> None:
    await world.offer()
    with pytest.raises(MalformedMessage):
        world.updates.handle("lamp", octets)
    assert world.counters == Counter(updates_malformed=1)


async def test_a_frame_of_an_older_image_is_not_answered(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    newer = await world.offer(signed(6, image(4000)))
    with pytest.raises(Unknown):
        await lamp.piece(n.FRAME, 0)
    assert world.counters["updates_not_offered"] == 1
    assert await lamp.report() == newer


async def test_a_board_that_is_retired_is_forgotten_in_the_middle(world: World) -> None:
    update_id = await world.offer(FIVE, "lamp")
    lamp = world.board("lamp")
    await lamp.report()
    await lamp.piece(n.ENVELOPE, 0)
    with world.store.transaction():
        world.store.pn.set_retired("lamp")
    world.tell(events.Retired("lamp", "lost", ()))
    await asyncio.sleep(0.1)
    with pytest.raises(NotAllowed, match="not of this PN"):
        await lamp.piece(n.PAGE, 0)
    assert world.counters["updates_not_allowed"] == 1
    assert world.updates.status()["offers"] == []
    assert world.store.updates.reports() == []
    with world.store.transaction():
        world.store.pn.register("lamp", 1)  # another board of this name
    with pytest.raises(Unknown):
        await lamp.piece(n.PAGE, 0)
    assert world.of("lamp").text == "has not reported"
    assert update_id.hex() not in {path.stem for path in (world.folder / "updates").iterdir()}


async def test_a_board_that_comes_anew_has_asked_for_nothing(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    with pytest.raises(TooMany):
        for _ in range(1000):
            await asyncio.sleep(1)
            await lamp.piece(n.FRAME, 0)
    with world.store.transaction():
        world.store.pn.set_retired("lamp")
    world.tell(events.Retired("lamp", "replaced", ()))
    await asyncio.sleep(0.1)
    with world.store.transaction():
        world.store.pn.register("lamp", 1)
    await lamp.piece(n.FRAME, 0)
    assert world.of("lamp").text == "has not reported"
    await lamp.report()
    assert world.of("lamp").text == "is offered an update"


async def test_an_update_that_is_withdrawn_and_offered_again_begins_anew(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    with pytest.raises(TooMany):
        for _ in range(1000):
            await asyncio.sleep(1)
            await lamp.piece(n.FRAME, 0)
    assert world.of("lamp").text == "collects update 5"
    await world.updates.withdraw()
    await world.offer()
    assert world.of("lamp").text == "is offered an update"
    await lamp.piece(n.FRAME, 0)
    assert world.of("lamp").missing_count == 10


@pytest.mark.parametrize(("state", "wanted", "wait_s"), [(n.IDLE, 0, 2), (n.COLLECTING, 5, 0), (n.COLLECTING, 4, 2)])
async def test_a_turn_is_as_long_as_what_a_board_misses(world: World, state: int, wanted: int, wait_s: int) -> None:
    await world.offer(signed(5, image(200 * 1024)))
    lamp, door = world.board("lamp"), world.board("door")
    lamp.state, lamp.wanted, lamp.detail = state, wanted, 1
    await lamp.report()
    await door.report()
    assert (lamp.wait_s, door.wait_s) == (0, wait_s)


async def test_that_a_board_runs_an_update_is_told_once(world: World) -> None:
    lamp = world.board("lamp")
    await lamp.report()
    lamp.agent_number = 5
    await lamp.report()
    await lamp.report()
    assert world.told == [events.BoardUpdated("lamp", "agent", 5)]


async def test_a_group_that_is_deleted_is_forgotten_in_the_middle(world: World) -> None:
    await world.offer(FIVE, group="home/lights")
    lamp = world.board("lamp")
    await lamp.report()
    await lamp.piece(n.ENVELOPE, 0)
    with world.store.transaction():
        world.store.inventory.mark_deleted("home/lights")
    world.tell(events.GroupDeleted("home/lights"))
    await asyncio.sleep(0.1)
    with pytest.raises(Unknown, match="not offered"):
        await lamp.piece(n.PAGE, 0)
    assert world.updates.status()["offers"] == [] and list((world.folder / "updates").iterdir()) == []


async def test_the_pieces_that_a_board_misses_are_counted_while_it_pulls(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    assert (world.of("lamp").text, world.of("lamp").missing_count) == ("is offered an update", 0)
    for what, index, missing in (
        (n.ENVELOPE, 0, 10),
        (n.PAGE, 0, 9),
        (n.PAGE, 0, 9),  # its answer was lost
        (n.FRAME, 0, 8),
        (n.FRAME, 3, 7),
        (n.FRAME, 3, 7),
        (n.ENVELOPE, 0, 7),
    ):
        await lamp.piece(what, index)
        seen = world.of("lamp")
        assert (seen.state, seen.text, seen.wanted_number, seen.missing_count) == (
            "collecting",
            "collects update 5",
            5,
            missing,
        )
        assert seen.since == Clock().unix()
    lamp.state, lamp.detail = n.COLLECTING, 6  # what it says counts
    await lamp.report()
    assert world.of("lamp").missing_count == 6
    await lamp.piece(n.FRAME, 4)
    assert world.of("lamp").missing_count == 5
    lamp.state = n.WAITING
    await lamp.report()
    assert (world.of("lamp").state, world.of("lamp").missing_count) == ("waiting", 0)
    assert world.of("door").text == "has not reported"


async def test_what_a_board_has_heard_of_a_broadcast_is_not_counted_as_missing(world: World) -> None:
    await world.offer(broadcast=True)
    lamp = world.board("lamp")
    await lamp.report()
    await lamp.piece(n.PAGE, 0)
    assert (world.of("lamp").text, world.of("lamp").missing_count) == ("collects update 5", 0)
    lamp.state, lamp.detail = n.COLLECTING, 3
    await lamp.report()
    for index in range(5):
        await lamp.piece(n.FRAME, index)
    assert world.of("lamp").missing_count == 0  # never less
    await world.updates.withdraw()
    assert world.of("lamp").text == "collects update 5"  # until it says that it has dropped it


async def test_an_update_that_a_board_went_back_from_is_an_alarm_until_it_is_withdrawn(world: World) -> None:
    update_id = await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    lamp.state, lamp.detail = n.FELL_BACK, n.NOT_CONFIRMED
    await lamp.report()
    await asyncio.sleep(failures.LOOK_EVERY_S + 1)
    (text,) = world.alarms.values()
    assert list(world.alarms) == [update_id.hex()] and "lamp went back, because it did not reach" in text
    await world.close()
    world.alarms.clear()
    world.open()
    await asyncio.sleep(1)
    assert list(world.alarms.values()) == [text]  # a restart raises it again
    await world.updates.withdraw()
    assert world.alarms == {}


async def test_that_a_board_fell_back_or_refused_is_told_once(world: World) -> None:
    update_id = await world.offer()
    lamp, door = world.board("lamp"), world.board("door")
    for board, state, detail in ((lamp, n.FELL_BACK, n.NOT_CONFIRMED), (door, n.REFUSED, n.NO_ROOM)):
        await board.report()
        board.state, board.detail = state, detail
        assert [await board.report(), await board.report()] == [b"" if board is lamp else update_id] * 2
    gone_wrong = [each for each in world.told if isinstance(each, events.BoardFellBack | events.BoardRefused)]
    assert gone_wrong == [
        events.BoardFellBack("lamp", 5, "it did not reach its gateway with it"),
        events.BoardRefused("door", 5, "its flash has no room left for it"),
    ]
    assert world.of("lamp").text == "went back from update 5"
    assert world.of("door").reason == "its flash has no room left for it"


async def test_a_board_that_changes_its_mind_again_and_again_is_told_a_few_times(world: World) -> None:
    lamp = world.board("lamp")
    for at in range(1000):
        lamp.state, lamp.wanted, lamp.detail = (n.FELL_BACK, n.REFUSED)[at % 2], at, n.NO_ROOM
        await lamp.report()
        await asyncio.sleep(6)
    hours = 1000 * 6 / 3600
    assert hours * limits.TOLD_PER_HOUR <= len(world.told) <= (hours + 1) * limits.TOLD_PER_HOUR


async def test_a_new_board_is_told_of_whatever_the_one_before_of_its_name_did(world: World) -> None:
    lamp = world.board("lamp")
    for at in range(2 * limits.TOLD_PER_HOUR):
        lamp.state, lamp.wanted, lamp.detail = n.REFUSED, at + 1, n.NO_ROOM
        await lamp.report()
    assert len(world.told) == limits.TOLD_PER_HOUR
    world.tell(events.Retired("lamp", "replaced", ()))
    await asyncio.sleep(0.1)
    world.told.clear()
    lamp.wanted = 1
    await asyncio.sleep(6)
    await lamp.report()
    assert world.told == [events.BoardRefused("lamp", 1, "its flash has no room left for it")]


async def test_turns_of_an_update_that_is_withdrawn_hold_up_nobody(world: World) -> None:
    lamp, door = world.board("lamp"), world.board("door")
    waits = []
    for number in (5, 6):
        await world.offer(signed(number, image(200 * 1024)))
        await lamp.report()
        await door.report()
        waits.append((lamp.wait_s, door.wait_s))
        await world.updates.withdraw()
    assert waits == [(0, 2)] * 2


async def test_boards_wait_for_the_end_of_an_airing_and_pull_what_they_have_missed(world: World) -> None:
    lamp, door = world.board("lamp"), world.board("door")
    update_id = await world.offer(broadcast=True)
    world.on_bluetooth.add("door")
    assert [await lamp.report(), await door.report()] == [update_id, update_id]
    length = 4 * 2 + 13  # manifest and page, frames
    assert lamp.wait_s == pytest.approx(length * 0.31 / 4 + 1, abs=1.1) and door.wait_s == 0

    def heard(datagram: bytes) -> None:
        if len(world.medium.left) % 5:
            lamp.hear(datagram, {1: FRAME_KEY})

    world.medium.on_air = heard
    await asyncio.sleep(lamp.wait_s)
    await lamp.report()
    assert lamp.wait_s == 0 and len(lamp.frames) >= 8
    assert await lamp.finish() == IMAGE and lamp.pulled <= 2
    assert await door.finish() == IMAGE


async def test_a_broadcast_is_for_all_and_needs_a_network(world: World) -> None:
    with pytest.raises(NotAllowed, match="a broadcast is for all boards"):
        await world.offer(FIVE, "lamp", broadcast=True)
    world.medium.up = False
    with pytest.raises(NotAllowed, match="no network for broadcasts is up"):
        await world.offer(broadcast=True)
    assert world.updates.status()["offers"] == []


async def test_no_board_asks_for_more_than_some_pieces_a_second(world: World) -> None:
    await world.offer(signed(5, image(100 * 1024)))
    lamp, door = world.board("lamp"), world.board("door")
    await lamp.report()
    await door.report()
    for index in range(limits.PIECES[1]):
        await lamp.piece(n.FRAME, index)
    with pytest.raises(TooMany, match="wait"):
        await lamp.piece(n.FRAME, 0)
    await door.piece(n.FRAME, 0)  # another board is answered
    await asyncio.sleep(1)
    for index in range(int(limits.PIECES[0])):
        await lamp.piece(n.FRAME, index)
    with pytest.raises(TooMany):
        await lamp.piece(n.FRAME, 0)
    assert world.counters["updates_too_many"] == 2


async def test_no_board_asks_for_an_update_again_and_again(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    answered = 0
    with pytest.raises(TooMany):
        for _ in range(10 * (1 + 1 + 14)):
            await asyncio.sleep(1)
            await lamp.piece(n.FRAME, 0)
            answered += 1
    assert answered == limits.PIECES_TIMES * (1 + 1 + 14)


async def test_all_boards_together_ask_for_some_pieces_a_second(world: World) -> None:
    await world.offer()
    names = [f"board{at}" for at in range(100)]
    with world.store.transaction():
        for name in names:
            world.store.pn.register(name, 1)
    answered = 0
    for name in names:
        board = world.board(name)
        await board.report()
        for index in range(9):
            try:
                await board.piece(n.FRAME, index)
                answered += 1
            except TooMany:
                break
    assert answered == limits.PIECES_OF_ALL[1]


async def test_reports_of_one_board_have_a_limit(world: World) -> None:
    lamp = world.board("lamp")
    for _ in range(limits.REPORTS[1]):
        await lamp.report()
    with pytest.raises(TooMany):
        await lamp.report()
    await asyncio.sleep(6)
    await lamp.report()


async def test_what_boards_have_said_outlives_the_process(world: World) -> None:
    await world.offer()
    lamp = world.board("lamp")
    await lamp.report()
    lamp.state, lamp.detail = n.COLLECTING, 7
    await lamp.report()
    before = world.of("lamp")
    assert (before.state, before.missing_count, before.offered_number) == ("collecting", 7, 5)
    await world.close()
    world.open()
    assert world.of("lamp") == before
    assert await lamp.finish() == IMAGE  # the pieces go on without a report


async def test_a_thousand_reports_cost_a_few_commits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = [world.board("lamp") for _ in range(3)] + [world.board(f"board{at}") for at in range(1000)]
    await asyncio.sleep(1)
    before = world.store.database.commits
    for board in boards:
        await board.report()
    await asyncio.sleep(board_reports.SAVE_EVERY_S + 1)
    assert world.store.database.commits == before + 1
    await boards[5].report()  # says nothing new
    await asyncio.sleep(board_reports.SAVE_EVERY_S + 1)
    assert world.store.database.commits == before + 1


async def test_a_full_disk_stops_no_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.offer()

    def full(*_: object) -> None:
        raise StoreFailed("The disk is full.", "Make room.")

    monkeypatch.setattr(world.store.updates, "put_reports", full)
    lamp = world.board("lamp")
    await lamp.report()
    await asyncio.sleep(board_reports.SAVE_EVERY_S + 1)
    assert await lamp.finish() == IMAGE
    monkeypatch.undo()
    await asyncio.sleep(board_reports.SAVE_EVERY_S + 1)
    assert [each.pne_id for each in world.store.updates.reports()] == ["lamp"]


async def test_status_counts_who_has_it(world: World) -> None:
    await world.offer()
    for name, state in (("lamp", n.IDLE), ("door", n.WAITING)):
        board = world.board(name)
        await board.report()
        board.state = state
        if name == "lamp":
            await board.finish()
        await board.report()
    seen = world.updates.status()
    (offer,) = seen["offers"]
    assert (offer.number, offer.boards_count, offer.updated_count, offer.aired_percent) == (5, 3, 1, 0)  # type: ignore[union-attr]
    assert {each.pne_id: each.text for each in seen["boards"]} == {  # type: ignore[union-attr]
        "desk": "has not reported",
        "door": "has update 5 and is about to restart",
        "lamp": "wants no update",
    }


@pytest.mark.parametrize("file", ["", "?", "AAAA", base64.b64encode(FIVE[:-1]).decode()])
async def test_a_file_that_is_none_is_refused_and_nobody_is_asked(world: World, file: str) -> None:
    with pytest.raises(CpnsError):
        await world.updates.offer(file)
    await asyncio.sleep(1)
    assert world.asked == [] and world.told == []


def test_a_class_is_told_by_its_id() -> None:
    assert AGENT_ID != FIRMWARE_ID and len(AGENT_ID) == 16
