"""The most that one hostile registered PNE may cost the PN GW and the CPNS Server (SEC-19)."""

import asyncio

import pytest

from cpns import messages, numbers
from cpns.errors import TooMany
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.rates import GKDK_LOSSES_PER_HOUR, REQUESTS, UPLINK_REQUESTS
from tests.unit.gateway_world import World

BURST = REQUESTS[1]


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path / "gw")
    yield world
    await world.close()


def error_of(answer):
    return answer.get(messages.ERROR)


@pytest.mark.req("SEC-19")
async def test_a_pne_that_alternates_its_generation_costs_few_commits(world):
    await world.board("lamp", "light")
    liar = await world.board("liar", "light")
    commits = world.store.database.commits
    membership = world.store.inventory.group("light").membership
    for _ in range(40):
        answer = await liar.pull("light", generation=1)
        assert answer[messages.RESULT] == numbers.RESULT_SUCCESS
        liar.records.clear()
        await liar.pull("light")  # without a generation
        await asyncio.sleep(0)
        world.clock.ahead += 1
    assert world.store.inventory.group("light").membership - membership <= 2 * GKDK_LOSSES_PER_HOUR
    assert world.store.database.commits - commits <= 2 * GKDK_LOSSES_PER_HOUR


@pytest.mark.req("SEC-19")
async def test_who_is_no_member_changes_nothing_by_pulling(world):
    await world.board("lamp", "light")
    await world.start()
    stranger = await world.board("stranger")
    await world.until(lambda: world.server.heard[-1][0] == numbers.VERSION_LIST_REQUEST)
    assert error_of(await stranger.pull("light")) == numbers.ERROR_NOT_MEMBER
    commits = world.store.database.commits
    for _ in range(20):
        stranger.records.clear()
        assert error_of(await stranger.pull("light")) == numbers.ERROR_NOT_MEMBER
    assert world.store.database.commits == commits
    assert world.store.slots.active("stranger", 1).delivered


@pytest.mark.req("SEC-19")
async def test_a_pne_has_its_share_of_messages_and_the_others_have_theirs(world):
    await world.board("lamp", "light")
    flooder = await world.board("flooder", "light")
    answers = [await flooder.pull("light") for _ in range(2 * BURST)]
    refused = [answer for answer in answers if error_of(answer) == numbers.ERROR_TOO_MANY]
    assert BURST <= len(refused) <= BURST + 5
    assert (await world.boards["lamp"].pull("light"))[messages.RESULT] == numbers.RESULT_SUCCESS
    commits = world.store.database.commits
    with pytest.raises(TooMany):
        await flooder.ask(
            numbers.GROUP_KEY_DELIVERY_RESPONSE, {messages.RESULT: "1", messages.SG_ID: "light", messages.VERSION: 1}
        )
    assert world.store.database.commits == commits
    assert world.gateway.counters["too_many"] == len(refused) + 1
    world.clock.ahead += 60
    assert (await flooder.pull("light"))[messages.RESULT] == numbers.RESULT_SUCCESS


@pytest.mark.req("SEC-19")
@pytest.mark.parametrize("code", [numbers.JOIN_REQUEST, numbers.DELETE_SERVICE_GROUP_REQUEST])
async def test_a_pne_cannot_make_the_pn_gw_ask_the_server_without_end(world, code):
    board = await world.board("lamp", "light")
    before = len(world.server.heard)
    fields = {messages.PNE_ID: "lamp", messages.SG_ID: "light"}
    if code == numbers.DELETE_SERVICE_GROUP_REQUEST:
        fields[messages.VERSION] = 1
    answers = [await board.ask(code, fields) for _ in range(BURST - 10)]
    assert len(world.server.heard) - before <= UPLINK_REQUESTS[1]
    assert {error_of(answer) for answer in answers} == {None, numbers.ERROR_TOO_MANY}
    world.clock.ahead += 60
    assert (await board.join("light"))[messages.RESULT] == numbers.RESULT_SUCCESS


@pytest.mark.req("SEC-19")
async def test_a_board_that_starts_anew_all_the_time_is_never_refused(world):
    """It asks for its GKDK, joins and pulls all its groups twice and confirms their keys, four times in an hour."""
    await world.start()
    groups = [f"g{i}" for i in range(6)]
    board = await world.board("lamp", *groups)
    for sg_id in groups:
        await world.server.rekey(sg_id)
    for _ in range(3):
        world.clock.ahead += 900
        await world.board("lamp", *groups)
        for sg_id in groups:
            for _ in range(2):
                assert (await board.pull(sg_id, 0))[messages.RESULT] == numbers.RESULT_SUCCESS
            await board.confirm(sg_id, board.version(sg_id), board.records[-1])
    assert len(board.records) == 4 and not world.gateway.counters["too_many"]


@pytest.mark.req("SEC-19")
async def test_whoever_comes_after_a_retired_pne_begins_to_count_anew(world):
    board = await world.board("lamp")
    while (await board.get_gkdk())[messages.RESULT] == numbers.RESULT_SUCCESS:
        pass
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    world.gateway.administration.register_pne("lamp")
    assert (await board.get_gkdk())[messages.RESULT] == numbers.RESULT_SUCCESS


@pytest.mark.req("SEC-06")
async def test_a_retired_pne_whose_session_survived_a_power_cut_says_nothing_to_anybody(world):
    board = await world.board("lamp", "light")
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    heard = len(world.server.heard)
    for code in (numbers.DELETE_SERVICE_GROUP_REQUEST, numbers.KEY_PULL_REQUEST, numbers.JOIN_REQUEST):
        fields = {messages.PNE_ID: "lamp", messages.SG_ID: "light"}
        if code != numbers.JOIN_REQUEST:
            fields[messages.VERSION] = 1
        assert error_of(await board.ask(code, fields)) == numbers.ERROR_NOT_ALLOWED
    assert len(world.server.heard) == heard


async def test_a_gkdk_of_another_slot_of_the_same_generation_does_not_count(world):
    """Between the new slot and its push the board still speaks of that generation, and means the old slot."""
    late = await world.board("late", "light")
    world.gateway.administration.register_pne("late")
    await late.join("light")
    late.reachable = False
    await late.pull("light")
    await late.pull("light")
    assert not world.store.slots.active("late", 1).delivered
    assert world.store.inventory.member("light", "late").slot is None


@pytest.mark.req("SEC-15", "Q-23")
async def test_who_was_not_told_that_its_group_is_gone_learns_it_by_its_pull(world):
    await world.start()
    board = await world.board("lamp", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    fields = {messages.SG_ID: "light", messages.VERSION: version}
    await world.server.tell("pn.home", numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
    await world.restart()  # before anybody was told over its session
    board.heard_unicast.clear()
    assert error_of(await board.pull("light")) == numbers.ERROR_UNKNOWN
    await world.until(lambda: board.heard_unicast)
    assert board.heard_unicast == [(numbers.DELETE_SERVICE_GROUP_REQUEST, fields)]


@pytest.mark.req("SEC-19")
async def test_who_pulls_for_a_deleted_group_and_never_answers_holds_up_one_request(world, monkeypatch):
    await world.start()
    await world.board("lamp", "light")
    mute = await world.board("mute", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    fields = {messages.SG_ID: "light", messages.VERSION: version}
    await world.server.tell("pn.home", numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
    await world.restart()
    asked = []

    async def silence(message):
        asked.append(message)
        await asyncio.sleep(60)

    monkeypatch.setattr(mute, "take", silence)
    for _ in range(20):
        await mute.pull("light")
        await asyncio.sleep(0.001)
    assert len(asked) == 1
