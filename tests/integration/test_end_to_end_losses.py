"""Whatever ends in the middle of it, a session, a process or the power of a board: the newest key arrives (SEC-25)."""

import asyncio

import pytest
from dying_medium import Dying, PowerCut

from cpns import messages as m
from cpns import numbers as n
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from tests.integration.end_to_end_attacker import FROM_BOARD, TO_BOARD
from tests.integration.end_to_end_house import SG, open_house_of_two, until

DELIVERY, RESPONSE = n.S_GROUP_KEY_DELIVERY_REQUEST, n.S_GROUP_KEY_DELIVERY_RESPONSE
SERVER_SESSION = "ssess"  # the record of a board


@pytest.fixture
async def house(tmp_path):
    """A home with two members, who hold a key."""
    async with open_house_of_two(tmp_path) as house:
        yield house


async def lose(board, *records):
    """While it is off, records of a board are lost."""
    await board.stop()
    for name in records:
        KeyStore(board.storage).erase(name)


@pytest.mark.req("SEC-25")
async def test_a_session_that_was_renewed_opens_what_was_wrapped_before(house):
    """The request waits in the PN GW, under the Entity User Key of the session before."""
    lamp = house.boards["lamp"]
    (old,) = lamp.euks()
    await lose(lamp, SERVER_SESSION)
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest("door"))
    await lamp.start()
    await until(lambda: house.holds_newest())
    await until(lambda: lamp.euks()[0] != old)
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())
    assert len(lamp.euks()) == 1  # the one before went with the first use of the new one
    assert not house.server.app.alarms()


@pytest.mark.req("SEC-25")
async def test_a_key_of_which_the_board_has_nothing_left_is_wrapped_anew_without_a_strike(house):
    lamp = house.boards["lamp"]
    await lose(lamp, SERVER_SESSION, entity_user_keys.RECORD)
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest("door"))
    await lamp.start()
    await until(lambda: house.holds_newest())
    returns = [seen.fields[m.RETURN] for seen in house.hostile.of(TO_BOARD, RESPONSE, answer=True)]
    assert set(returns) <= {"1", "3"} and returns[-1] == "1"
    assert not house.server.app.alarms()


@pytest.mark.req("SEC-04")
async def test_a_member_that_has_forgotten_the_group_comes_back_to_a_new_key(house):
    """The Server never heard that it had left, and the key that it had is not above its floor."""
    lamp, before = house.boards["lamp"], house.server.version()
    lamp.agent.membership._forget(lamp.group(), "left")
    await house.member("lamp")
    assert lamp.version() > before
    await until(lambda: house.holds_newest())


async def test_sessions_survive_restarts_of_all_three(house):
    began = len(house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST))
    euks = {name: board.euks() for name, board in house.boards.items()}
    for part in (house.server, house.gateways["home"], *house.boards.values()):
        await part.restart()
        house.server.app.update_key(SG)
        await until(lambda: house.holds_newest())
    assert {name: board.euks() for name, board in house.boards.items()} == euks
    assert began


@pytest.mark.parametrize("part", ["server", "gateway"])
async def test_a_key_that_was_under_way_when_a_part_went_down_arrives(house, part):
    going = house.server if part == "server" else house.gateways["home"]
    for wait in (0, 0.05, 0.1, 0.2, 0.5):
        house.server.app.update_key(SG)
        await asyncio.sleep(wait)
        await going.restart()
        await until(lambda: house.holds_newest())


async def test_a_gateway_that_comes_back_without_what_it_kept_for_a_sleeper_gets_it_again(house):
    """It keeps wrapped keys in its memory only; the Server knows what is missing."""
    lamp = house.boards["lamp"]
    await lamp.stop()
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest("door"))
    await house.gateways["home"].restart()
    await lamp.start()
    await until(lambda: house.holds_newest())


@pytest.mark.req("SEC-04", "SEC-22", "SEC-25")
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
@pytest.mark.parametrize("deed", ["a key comes", "a new session and a key", "a join"])
async def test_a_board_whose_power_fails_at_any_write_has_the_newest_key_soon_after(house, how, deed):
    lamp = house.boards["lamp"]
    dies_at, cuts = 0, 0
    was_cut = True
    # A key that came first would put off the session
    house.hostile.judge = lambda seen: (
        None
        if (seen.way, seen.code, seen.peer) == (TO_BOARD, DELIVERY, lamp.id) and not has_session(lamp)
        else seen.octets
    )
    while was_cut:
        dies_at += 1
        await lamp.stop()
        if deed == "a new session and a key":
            KeyStore(lamp.storage).erase(SERVER_SESSION)
        if deed == "a join":  # of another board each time, as one may not join so often
            lamp = await house.board(f"lamp.{dies_at}")
            await lamp.stop()
        lamp.storage = Dying(lamp.flash, dies_at, how)
        was_cut = await _lives(house, lamp, joins=deed == "a join")
        lamp.storage = Dying(lamp.flash, 0, how)
        await lamp.start()
        if lamp.group() is None:
            await house.member(lamp.id)
        await until(lambda lamp=lamp: house.holds_newest(lamp.id, "door"))
        cuts += was_cut
        if deed == "a join":
            await lamp.stop()
    assert cuts > 4
    assert not [alarm for alarm in house.server.app.alarms() if "forg" in alarm.text]


def has_session(board) -> bool:
    """Whether a session with the Server is in the flash of a board."""
    return KeyStore(board.storage).load(SERVER_SESSION) is not None


async def _lives(house, board, *, joins) -> bool:
    """Start a board that has to store a new key; return True if its power failed."""
    try:
        await board.start()
        house.server.app.update_key(SG)
        ended = asyncio.create_task(board.ended())
        work = asyncio.create_task(house.member(board.id) if joins else until(lambda: house.holds_newest(board.id)))
        await asyncio.wait([ended, work], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, work):
            task.cancel()
        results = await asyncio.gather(ended, work, return_exceptions=True)
    except PowerCut:
        results = [PowerCut()]
    try:
        await board.stop()
    except PowerCut:
        return True
    return any(isinstance(result, PowerCut) for result in results)
