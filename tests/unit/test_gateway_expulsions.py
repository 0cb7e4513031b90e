"""An expelled PNE is told so, and no PNE that may be a member is."""

import asyncio

import pytest

from cpns import messages, numbers
from gateway_agent.core.groups import expulsions
from gateway_agent.core.ports import NoAnswer
from tests.unit.gateway_world import PN, World


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(expulsions, "PAUSES_S", (0.0, 0.01, 0.01))
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


def told(board):
    return [fields for code, fields in board.heard_unicast if code == numbers.DELETE_SERVICE_GROUP_REQUEST]


def error_of(answer):
    return answer.get(messages.ERROR)


async def keyed(world, *names):
    boards = [await world.board(name, "light") for name in names]
    version = await world.server.rekey("light")
    await world.delivered("light")
    return version, boards


@pytest.mark.req("SEC-15", "SEC-06")
async def test_who_is_expelled_is_told_at_once_over_its_session_and_nobody_else_is(world):
    version, (lamp, other) = await keyed(world, "lamp", "other")
    await world.server.expel("light", "lamp")
    await world.until(lambda: told(lamp))
    fields = {messages.SG_ID: "light", messages.VERSION: version, messages.REASON: numbers.REASON_LEAVE}
    assert told(lamp) == [fields] and not told(other)
    assert error_of(await lamp.pull("light")) == numbers.ERROR_NOT_MEMBER


@pytest.mark.req("SEC-15")
async def test_it_is_told_again_when_it_did_not_answer_but_not_for_ever(world, monkeypatch):
    _, (lamp, _) = await keyed(world, "lamp", "other")
    tries = []

    async def deaf(message):
        tries.append(messages.decode(message)[0])
        raise NoAnswer("nobody there")

    monkeypatch.setattr(lamp, "take", deaf)
    await world.server.expel("light", "lamp")
    await world.until(lambda: tries.count(numbers.DELETE_SERVICE_GROUP_REQUEST) == 3)
    await asyncio.sleep(0.05)
    assert tries.count(numbers.DELETE_SERVICE_GROUP_REQUEST) == 3


async def test_who_is_let_in_again_meanwhile_is_told_nothing(world, monkeypatch):
    _, (lamp, _) = await keyed(world, "lamp", "other")
    again = asyncio.Event()
    tries = []

    async def deaf(message):
        tries.append(messages.decode(message)[0])
        again.set()
        raise NoAnswer("nobody there")

    monkeypatch.setattr(expulsions, "PAUSES_S", (0.0, 0.2, 0.2))
    monkeypatch.setattr(lamp, "take", deaf)
    await world.server.expel("light", "lamp")
    await again.wait()
    await lamp.join("light")
    await asyncio.sleep(0.5)
    assert tries.count(numbers.DELETE_SERVICE_GROUP_REQUEST) == 1


async def test_who_leaves_by_itself_or_is_retired_is_told_nothing(world):
    _, (lamp, lost, _) = await keyed(world, "lamp", "lost", "other")
    await lamp.leave("light")
    world.gateway.administration.retire_pne("lost", "lost")
    await world.until(lambda: not world.store.pn.pending_leaves())
    await world.server.inventory("light", PN)
    await asyncio.sleep(0.05)
    assert not told(lamp) and not told(lost)


@pytest.mark.req("SEC-15", "SEC-02")
async def test_nobody_is_called_a_stranger_while_the_list_of_members_is_behind(world):
    version, (lamp, _) = await keyed(world, "lamp", "other")
    with world.store.transaction():
        world.store.inventory.remove_member("light", "lamp")
        world.store.inventory.want_revision("light", 99)
    assert error_of(await lamp.pull("light", version)) == numbers.ERROR_STALE
    with world.store.transaction():
        world.store.inventory.mark_all_waiting()  # as after a restore
    assert error_of(await lamp.pull("light", version)) == numbers.ERROR_STALE


@pytest.mark.req("SEC-15", "SEC-02")
async def test_nobody_is_called_a_stranger_by_a_gateway_that_has_not_asked_its_server_since_its_start(world):
    version, (lamp, _) = await keyed(world, "lamp", "other")
    await world.server.expel("light", "lamp")
    assert error_of(await lamp.pull("light", version)) == numbers.ERROR_NOT_MEMBER
    world.server.up = False
    await world.restart()
    assert error_of(await lamp.pull("light", version)) == numbers.ERROR_STALE


@pytest.mark.req("SEC-15")
async def test_a_gateway_that_never_heard_of_a_group_calls_nobody_a_stranger_to_it(world):
    """One that was replaced, or has lost its store: its boards keep their keys until it knows better."""
    lamp = await world.board("lamp")
    assert error_of(await lamp.pull("light", 7)) == numbers.ERROR_UNKNOWN
