"""Datagrams of the session between PNE and CPNS Server, which the PN GW passes on within limits (SEC-19)."""

import asyncio

import pytest

from cpns import cborlite, messages, numbers, tuning
from cpns.errors import MalformedMessage, NotAllowed
from gateway_agent.core import rates
from gateway_agent.core.end_to_end import tunnel
from gateway_agent.core.groups.membership import Cause
from tests.unit.gateway_world import World


@pytest.fixture
def wide(monkeypatch):
    """There are places for more datagrams than one board may have under way."""
    monkeypatch.setattr(tunnel, "AT_ONCE", 4 * tunnel.UNDER_WAY_MAX)


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


def passed(world):
    return [fields for code, fields in world.server.heard if code == numbers.TUNNEL_REQUEST]


async def through(board, datagram=b"hello", pne_id=None):
    fields = {messages.PNE_ID: pne_id or board.pne_id, messages.DATAGRAM: datagram}
    return await board.ask(numbers.TUNNEL_REQUEST, fields)


class Held:
    """The Server keeps each datagram until it is told to answer."""

    def __init__(self, world):
        self.waiting = []
        world.server.tunnelled = self

    async def __call__(self, fields):
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((fields[messages.PNE_ID], answer))
        return await answer

    def answer(self, at=0):
        self.waiting.pop(at)[1].set_result({messages.DATAGRAM: b"answer"})


@pytest.mark.req("CPNS-GKM-50", "SEC-25")
@pytest.mark.parametrize("datagram", [b"\x00", b"\xff" * tuning.TUNNEL_DATAGRAM_MAX])
async def test_a_datagram_goes_to_the_server_and_its_answer_comes_back(world, datagram):
    board = await world.board("lamp")
    world.server.tunnelled = lambda fields: _soon({messages.DATAGRAM: datagram[::-1]})
    assert await through(board, datagram) == {messages.RESULT: "1", messages.DATAGRAM: datagram[::-1]}
    assert passed(world) == [{messages.PNE_ID: "lamp", messages.DATAGRAM: datagram}]
    assert world.gateway.counters["tunnelled"] == 1


async def test_a_server_that_sends_nothing_is_told_as_such(world):
    board = await world.board("lamp")
    world.server.tunnelled = lambda fields: _soon({})
    assert await through(board) == {messages.RESULT: "1"}


async def test_without_a_server_the_board_is_told(world):
    board = await world.board("lamp")
    world.server.up = False
    assert (await through(board))[messages.ERROR] == numbers.ERROR_NO_SESSION


@pytest.mark.req("SEC-16", "SEC-25")
async def test_a_datagram_in_the_name_of_another_pne_is_refused(world):
    await world.board("lamp")
    mallory = await world.board("mallory")
    with pytest.raises(NotAllowed):
        await through(mallory, pne_id="lamp")
    assert world.gateway.counters["refused"] == 1 and not passed(world)


@pytest.mark.parametrize("octets", [b"", bytes(tuning.TUNNEL_DATAGRAM_MAX + 1)])
async def test_a_datagram_that_is_empty_or_too_long_is_malformed(world, octets):
    await world.board("lamp")
    message = {0: numbers.TUNNEL_REQUEST, messages.PNE_ID: "lamp", messages.DATAGRAM: octets}
    with pytest.raises(MalformedMessage):
        await world.gateway.handle_pne("lamp", cborlite.encode(message))
    assert world.gateway.counters["refused"] == 1 and not passed(world)


@pytest.mark.req("SEC-06")
async def test_a_board_that_is_none_of_the_pn_has_no_tunnel(world):
    board = await world.board("lamp")
    held = Held(world)
    under_way = asyncio.ensure_future(through(board))
    await world.until(lambda: held.waiting)
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    assert (await through(board))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    assert len(passed(world)) == 1
    held.answer()
    assert (await under_way)[messages.ERROR] == numbers.ERROR_NOT_ALLOWED  # nor is an answer on its way passed on


@pytest.mark.req("SEC-19")
async def test_one_board_has_four_datagrams_under_way(wide, world):
    board = await world.board("lamp")
    held = Held(world)
    under_way = [asyncio.ensure_future(through(board)) for _ in range(tunnel.UNDER_WAY_MAX)]
    await world.until(lambda: len(held.waiting) == tunnel.UNDER_WAY_MAX)
    assert (await through(board))[messages.ERROR] == numbers.ERROR_TOO_MANY
    assert world.gateway.counters["tunnel_too_many"] == 1
    for _ in under_way:
        await world.until(lambda: held.waiting)
        held.answer()
    assert all(messages.DATAGRAM in answer for answer in await asyncio.gather(*under_way))
    after = asyncio.ensure_future(through(board))
    await world.until(lambda: held.waiting)
    held.answer()
    assert messages.DATAGRAM in await after


@pytest.mark.req("SEC-19")
async def test_a_full_board_that_joins_and_asks_for_everything_again_is_not_refused(world):
    """It has 8 end-to-end groups, loses its session, and waits in vain for some answers of a slow gateway."""
    board, handshake, groups = await world.board("lamp"), 4, 8
    for _ in range(handshake + 2 * groups + handshake + groups + groups + groups):
        assert messages.DATAGRAM in await through(board)
    assert not world.gateway.counters["tunnel_too_many"]


@pytest.mark.req("SEC-19")
async def test_a_flood_of_one_board_ends_at_its_rate_and_does_not_touch_others(world):
    board, other = await world.board("lamp"), await world.board("plug")
    answers = [await through(board) for _ in range(rates.TUNNELLED[1] + 8)]
    assert sum(messages.ERROR in answer for answer in answers) >= 7
    assert answers[-1][messages.ERROR] == numbers.ERROR_TOO_MANY
    assert len(passed(world)) <= rates.TUNNELLED[1] + 1
    assert messages.DATAGRAM in await through(other)
    world.clock.ahead += 60
    assert messages.DATAGRAM in await through(board)


@pytest.mark.req("SEC-19", "SEC-35")
async def test_datagrams_that_the_server_does_not_answer_hold_one_place(world, monkeypatch):
    monkeypatch.setattr("gateway_agent.core.turns.SILENT_AFTER_S", 0.01)
    monkeypatch.setattr(tunnel, "PLACE_S", 0.2)
    hostile = [await world.board(f"h{i}") for i in range(8)]
    honest = await world.board("lamp")
    held = Held(world)
    floods = [asyncio.ensure_future(through(board)) for board in hostile for _ in range(tunnel.UNDER_WAY_MAX)]
    await world.until(lambda: len(held.waiting) >= tunnel.AT_ONCE)
    asked = asyncio.ensure_future(through(honest))
    await world.until(lambda: any(name == "lamp" for name, _ in held.waiting))
    held.answer(next(at for at, (name, _) in enumerate(held.waiting) if name == "lamp"))
    assert messages.DATAGRAM in await asked
    await world.until(lambda: sum(flood.done() for flood in floods) + len(held.waiting) == len(floods))
    refused = [flood.result()[messages.ERROR] for flood in floods if flood.done()]
    assert refused and set(refused) == {numbers.ERROR_TOO_MANY}
    while held.waiting:
        held.answer()
    await asyncio.gather(*floods)


@pytest.mark.req("SEC-19", "SEC-35")
async def test_a_board_whose_answer_was_slow_is_as_good_as_others_again(world, monkeypatch):
    monkeypatch.setattr("gateway_agent.core.turns.SILENT_AFTER_S", 0.01)
    hostile, slow = await world.board("h"), await world.board("lamp")
    held = Held(world)
    first = asyncio.ensure_future(through(slow))
    await asyncio.sleep(0.05)
    held.answer()
    await first
    flood = asyncio.ensure_future(through(hostile))
    await asyncio.sleep(0.05)  # it has the place of those that are not answered
    second = asyncio.ensure_future(through(slow))
    await world.until(lambda: len(held.waiting) == 2)
    while held.waiting:
        held.answer()
    await asyncio.gather(flood, second)


async def _soon(answer):
    return answer
