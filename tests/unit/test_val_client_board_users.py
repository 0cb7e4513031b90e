"""PNEs that are VAL clients, seen from the gateway: messages to them, their rights, and the effect of silence."""

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cpns import cborlite, messages, numbers, tuning
from cpns.errors import MalformedMessage, NotAllowed, TooMany, Unknown
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from gateway_agent.val_client.board_users import UNASKED_PER_HOUR, BoardUser, BoardUsers
from gateway_agent.val_client.client import shortened
from mikey_sakke.errors import WrongReceiver
from mikey_sakke.group_configuration import NotifyRequest, NotifyResponse, UserProfile
from tests.unit.gateway_world import World

LAMP, DOOR = "sip:lamp@example.org", "sip:door@example.org"
CREW, GMS = "sip:crew@gms.example.org", "sip:gms.example.org"
END = 2_000_000_000
READY = cborlite.encode([END])
GMK_ID, PROOF = b"\x01\x02\x03\x04", b"p" * 16


class Board:
    """A PNE that takes what it is sent; `answer` says what it does with a notice."""

    def __init__(self, **times: float) -> None:
        self.user = BoardUser("lamp", LAMP, self.take, self.respond, **times)
        self.there = True
        self.sent: list[list[object]] = []
        self.late: list[NotifyResponse] = []
        self.answer: Callable[[str], list[object] | None] = lambda name: [name, GMK_ID, PROOF, "", ""]

    async def take(self, pne_id: str, octets: bytes) -> None:
        assert pne_id == "lamp"
        if not self.there:
            raise NoAnswer("no session")
        value = cborlite.decode(octets)
        self.sent.append(value)
        if value and value[:2] == ["", "profile"]:
            self.say(["", b"", b"", "", value[2]])
        elif value and (found := self.answer(value[0])) is not None:
            self.say(found)

    def say(self, value: object) -> None:
        self.user.heard(cborlite.encode(value))

    async def respond(self, response: NotifyResponse) -> None:
        self.late.append(response)


def notice(name: str = "n-1", user: str = LAMP, i_message: bytes = b"mikey") -> NotifyRequest:
    return NotifyRequest(name, GMS, user, "key", (), i_message)


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    board = Board(answer_s=0.1, ask_first_s=0.02)
    running = asyncio.create_task(board.user.run())
    yield board
    running.cancel()
    await board.user.close()


async def test_a_notice_goes_to_the_board_as_it_is_and_its_answer_comes_back(board: Board) -> None:
    assert await board.user.take(notice()) == NotifyResponse("n-1", GMK_ID, PROOF)
    assert board.sent == [["n-1", "key", GMS, b"mikey"]]
    board.answer = lambda name: [name, b"", b"", "bad-signature", "not\x07 signed" + "!" * 400]
    assert await board.user.take(notice("n-2")) == NotifyResponse(
        "n-2", code="bad-signature", text=shortened("not? signed" + "!" * 400)
    )


@pytest.mark.req("SEAL-GMK-45")
async def test_the_profile_comes_before_the_notice_and_again_when_the_board_is_new(board: Board) -> None:
    board.user.apply_profile(UserProfile(LAMP, 3, {CREW: GMS}))
    profile = ["", "profile", "3", cborlite.encode([[CREW, GMS]])]
    await board.user.take(notice())
    assert [each for each in board.sent if each] == [profile, ["n-1", "key", GMS, b"mikey"]]
    board.user.apply_profile(UserProfile(LAMP, 2, {}))  # older
    await board.user.take(notice("n-2"))
    assert board.sent.count(profile) == 1
    board.say([END])
    await asyncio.sleep(0.05)
    assert board.sent[-1] == profile
    with pytest.raises(WrongReceiver):
        board.user.apply_profile(UserProfile(DOOR, 4, {}))


async def test_who_was_just_added_is_asked_again_with_the_profile_of_this_moment(board: Board) -> None:
    board.user.apply_profile(UserProfile(LAMP, 3, {}))
    board.answer = lambda name: [name, b"", b"", "unauthorised-group", "not in the profile"]

    async def refresh() -> None:
        board.answer = lambda name: [name, GMK_ID, PROOF, "", ""]
        board.user.apply_profile(UserProfile(LAMP, 4, {CREW: GMS}))

    assert await board.user.take(notice(), refresh) == NotifyResponse("n-1", GMK_ID, PROOF)
    assert [each[2] for each in board.sent if each[:2] == ["", "profile"]] == ["3", "4"]


@pytest.mark.req("SEAL-GMK-47")
async def test_a_removal_reaches_the_board_when_it_comes_back(board: Board) -> None:
    board.there = False
    board.user.apply_profile(UserProfile(LAMP, 3, {}))
    await asyncio.sleep(0.05)
    assert board.sent == [] and board.user.counters["val.unreachable"] >= 2
    board.there = True
    board.say([END])
    await asyncio.sleep(0.05)
    assert ["", "profile", "3", b"\x80"] in board.sent


async def test_nothing_is_fetched_for_a_board_that_is_away(board: Board) -> None:
    board.there = False
    waiting = asyncio.create_task(board.user.ready())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    board.there = True
    await asyncio.wait_for(waiting, 1)
    assert board.sent == [[]]


async def test_a_board_that_was_away_for_long_is_asked_soon_after_it_says_anything() -> None:
    board = Board(ask_first_s=0.2)
    user, board.there = board.user, False
    waiting = asyncio.create_task(user.ready())
    await asyncio.sleep(1.5)  # asked after 0, 0.2, 0.6 and 1.4 s: the next time would be after 3 s
    asked = user.counters["val.unreachable"]
    board.there = True
    BoardUsers({"lamp": user}).seen("lamp")
    await asyncio.wait_for(waiting, 1)
    assert asked == 4 and board.sent == [[]]


async def test_without_answer_there_is_none_and_a_late_one_still_counts(board: Board) -> None:
    board.answer = lambda name: None
    assert await board.user.take(notice()) is None
    board.say(["n-1", GMK_ID, PROOF, "", ""])
    await asyncio.sleep(0)
    assert board.late == [NotifyResponse("n-1", GMK_ID, PROOF)]


async def test_a_board_that_starts_anew_over_a_notice_is_not_waited_for() -> None:
    board = Board(answer_s=60)
    board.answer = lambda name: [END]
    assert await asyncio.wait_for(board.user.take(notice()), 1) is None


@pytest.mark.parametrize("how", ["answered", "found"])
async def test_the_first_ready_of_a_board_that_has_answered_or_was_found_leaves_the_notice_and_another_one_does_not(
    how: str,
) -> None:
    """A board restarts to answer and then says ready, and one that has just started accepts messages before it does.

    A second ready means that it lost its power and the notice.
    """
    board = Board(answer_s=1000.0)
    if how == "answered":
        assert await board.user.take(notice()) is not None
    else:
        await board.user.ready()
    board.answer = lambda name: None
    waiting = asyncio.create_task(board.user.take(notice("n-2")))
    await asyncio.sleep(0.1)
    board.say([END])
    await asyncio.sleep(0.1)
    assert not waiting.done()
    board.say([END])
    assert await asyncio.wait_for(waiting, 1) is None


async def test_it_is_said_once_a_day_when_the_keys_of_a_board_are_over_soon(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    users = BoardUsers({"lamp": board.user})
    assert users.status() == [{"pne_id": "lamp", "user": LAMP, "there": False, "keys_end": None}]
    for end in (int(time.time()) + 8 * 86400, int(time.time()) + 6 * 86400):
        board.say([end])
        board.user.tick()
        board.user.tick()
    assert [record.message for record in caplog.records if "keycast seal board lamp" in record.message] == [
        f"KC1302 the keys of lamp end at {datetime.datetime.fromtimestamp(end, datetime.UTC)}: "
        "run keycast seal board lamp"
    ]
    assert users.status() == [{"pne_id": "lamp", "user": LAMP, "there": True, "keys_end": end}]


async def test_what_a_board_says_unasked_is_bounded(board: Board) -> None:
    for number in range(UNASKED_PER_HOUR):
        board.say([f"x-{number}", GMK_ID, PROOF, "", ""])
    with pytest.raises(TooMany):
        board.say(["x", GMK_ID, PROOF, "", ""])
    await asyncio.sleep(0)
    assert len(board.late) == UNASKED_PER_HOUR


@pytest.mark.parametrize(
    "value",
    [
        7,
        [],
        [-1],
        [1 << 40],
        [True],
        ["n-1", GMK_ID, PROOF, ""],
        ["n-1", GMK_ID, b"", "", ""],
        ["n-1", b"", b"", "", ""],
        ["n-1", GMK_ID, PROOF, "code", ""],
        ["n" * 65, GMK_ID, PROOF, "", ""],
        ["n\n", GMK_ID, PROOF, "", ""],
        ["n-1", b"", b"", "c" * 65, ""],
        ["n-1", b"", b"", 7, ""],
    ],
)
async def test_what_is_no_answer_is_refused(board: Board, value: object) -> None:
    with pytest.raises(MalformedMessage):
        board.say(value)
    with pytest.raises(MalformedMessage):
        board.user.heard(b"\xff")
    assert board.late == []


async def test_notices_for_somebody_else_or_too_large_are_refused_here(board: Board) -> None:
    refused = await board.user.take(notice(user=DOOR))
    assert refused is not None and refused.code == "wrong-receiver"
    refused = await board.user.take(notice(i_message=bytes(tuning.KEY_MESSAGE_MAX)))
    assert refused is not None and refused.code == "too-large"
    assert board.sent == []


async def test_a_pne_speaks_for_its_own_user_only(board: Board) -> None:
    answers: list[NotifyResponse] = []

    async def respond(response: NotifyResponse) -> None:
        answers.append(response)

    door = BoardUser("door", DOOR, board.take, respond)
    users = BoardUsers({"lamp": board.user, "door": door})
    board.answer = lambda name: None
    waiting = asyncio.create_task(board.user.take(notice()))
    await asyncio.sleep(0)
    users.take("door", cborlite.encode(["n-1", GMK_ID, PROOF, "", ""]))
    assert await waiting is None and board.late == []
    assert answers == [NotifyResponse("n-1", GMK_ID, PROOF)]  # by the door's token: the GMS refuses it
    with pytest.raises(NotAllowed):
        users.take("window", READY)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "gw")
    yield world
    await world.close()


async def test_the_core_takes_key_messages_of_val_clients_and_refuses_others(world: World, board: Board) -> None:
    message = messages.encode(numbers.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: READY})
    for pne_id in ("lamp", "door"):
        await world.board(pne_id)
    with pytest.raises(NotAllowed):
        await world.gateway.handle_pne("lamp", message)
    world.gateway._pne_messages._key_messages = BoardUsers({"lamp": board.user})
    seen: list[str] = []
    world.gateway._pne_messages._key_messages.seen = seen.append  # type: ignore[method-assign]
    answer = await world.gateway.handle_pne("lamp", message)
    assert answer is not None and seen == ["lamp"]
    assert messages.decode(answer) == (numbers.KEY_MESSAGE_RESPONSE, {messages.RESULT: numbers.RESULT_SUCCESS})
    with pytest.raises(NotAllowed):
        await world.gateway.handle_pne("door", message)


async def test_the_core_hands_key_messages_to_pnes_of_this_pn_only(world: World) -> None:
    lamp = await world.board("lamp")
    await world.gateway.send_key_message("lamp", b"unread")
    assert lamp.heard_unicast[-1] == (numbers.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: b"unread"})
    with pytest.raises(Unknown):
        await world.gateway.send_key_message("stranger", b"unread")
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    with pytest.raises(Unknown):
        await world.gateway.send_key_message("lamp", b"unread")
