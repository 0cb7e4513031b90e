"""Wrapped keys on their way from the CPNS Server to a PNE, and the responses on the way back (CPNS-GKM-81, -82)."""

import asyncio
import os

import pytest

from cpns import entity_user_key, messages, numbers, xml_form
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotMember, Stale, TooMany, Unknown
from gateway_agent.core.end_to_end import carried_keys
from gateway_agent.core.groups.membership import Cause
from tests.unit.gateway_world import PN, World

SG = "alarm"


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    world.server.group(SG).end_to_end = True
    new_key(world)
    yield world
    await world.close()


def new_key(world):
    group = world.server.group(SG)
    group.version, group.key = (group.version or 1 << 16) + 1, os.urandom(16)


def request(pne_id="lamp", sg_id=SG, version=65537, wrapped=bytes(24)):
    fields = {messages.SGID: sg_id, messages.GROUP_KEY_INFO: (pne_id, wrapped)}
    return fields | {messages.VERSION: version, messages.EUK_ID: bytes(8)}


async def send(world, fields):
    return await world.gateway.handle_server(messages.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, fields))


def status(world, pne_id="lamp", sg_id=SG):
    (found,) = [each for each in world.gateway.administration.carried(sg_id) if each.pne_id == pne_id]
    return found


def keys_sent(board):
    return [fields for code, fields in board.heard_unicast if code == numbers.S_GROUP_KEY_DELIVERY_REQUEST]


@pytest.mark.req("CPNS-GKM-81", "CPNS-GKM-82")
async def test_a_wrapped_key_goes_to_its_pne_unread_and_the_response_goes_to_the_server(world):
    board = await world.board("lamp", SG)
    other = await world.board("plug", SG)
    sent = await world.server.wrap(SG, "lamp")  # answered at once, with an empty message
    assert not board.heard_unicast
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert keys_sent(board) == [sent] and not keys_sent(other)
    group = world.server.group(SG)
    assert board.keys[SG] == {group.version: group.key}
    (response,) = world.server.responses
    assert response == {
        messages.RETURN: "1",
        messages.PNID: PN,
        messages.MAC: entity_user_key.response_mac(group.key, "lamp", SG, group.version),
        messages.PNE_ID: "lamp",
        messages.SGID: SG,
        messages.VERSION: group.version,
        messages.EUK_ID: sent[messages.EUK_ID],
    }
    found = status(world)
    assert (found.version, found.stage, found.tries, found.returned) == (group.version, "answered", 1, "1")
    assert found.since == world.clock.unix_time
    assert world.gateway.counters["carried"] == world.gateway.counters["carried_responses"] == 1


@pytest.mark.req("CPNS-GKM-81")
async def test_a_request_in_xml_goes_on_in_cbor(world):
    board = await world.board("lamp", SG)
    fields = await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    message = xml_form.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, fields)
    assert await world.gateway.handle_server(message) == b""
    await world.until(lambda: world.gateway.counters["carried_responses"] == 2)
    assert keys_sent(board) == [fields, fields]


@pytest.mark.req("CPNS-GKM-82")
@pytest.mark.parametrize("returned", ["2", "3"])
async def test_a_refusal_of_the_pne_goes_to_the_server_and_confirms_nothing(world, returned):
    board = await world.board("lamp", SG)

    async def take(message):
        answer = {messages.RETURN: returned, messages.PNID: PN, messages.ERROR: numbers.ERROR_NOT_AUTHENTIC}
        answer |= {messages.PNE_ID: "lamp", messages.SGID: SG, messages.VERSION: 65537}
        return messages.encode(numbers.S_GROUP_KEY_DELIVERY_RESPONSE, answer)

    board.take = take
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert world.server.responses[0][messages.RETURN] == returned == status(world).returned
    await world.gateway.tick()
    assert not world.server.reports


@pytest.mark.req("CPNS-GKM-82")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("another code", None),
        ("empty", b""),
        ("no PNID", {messages.PNID: None}),
        ("another PN", {messages.PNID: "pn.elsewhere"}),
        ("another PNE", {messages.PNE_ID: "plug"}),
        ("no PNE", {messages.PNE_ID: None}),
        ("another group", {messages.SGID: "heat"}),
        ("an older version", {messages.VERSION: 65536}),
        ("a Return of 4", {messages.RETURN: "4"}),
    ],
)
async def test_what_is_no_response_to_the_request_is_counted_and_stays_here(world, name, changes):
    from cpns import cborlite

    board = await world.board("lamp", SG)

    async def take(message):
        code, fields = messages.decode(message)
        if code != numbers.S_GROUP_KEY_DELIVERY_REQUEST:
            return None
        if changes is None:
            return messages.encode(numbers.KEY_MESSAGE_RESPONSE, {messages.RESULT: "1"})
        if not changes:
            return changes
        answer = board.opened(fields) | changes
        return cborlite.encode(
            {0: numbers.S_GROUP_KEY_DELIVERY_RESPONSE} | {k: v for k, v in answer.items() if v is not None}
        )

    board.take = take
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: status(world).stage == "refused")
    assert world.gateway.counters["carried_responses_refused"] == 1
    await board.pull(SG)  # nor is it asked again before the Server sends anew
    await asyncio.sleep(0.05)
    assert not world.server.responses and status(world).tries == 1 and not status(world).returned


@pytest.mark.req("CPNS-GKM-81")
async def test_a_pne_that_is_away_gets_only_the_newest_key_when_it_is_heard(world):
    board = await world.board("lamp", SG)
    board.reachable = False
    await world.server.wrap(SG, "lamp")
    new_key(world)
    newest = await world.server.wrap(SG, "lamp")
    await world.until(lambda: status(world).stage == "unreachable")
    assert status(world).tries == world.pacing.failures_max
    await world.until(lambda: world.server.reports)
    (report,) = world.server.reports
    assert report[messages.UNREACHABLE] == ["lamp"] and report[messages.VERSION] == newest[messages.VERSION]
    board.reachable = True
    await asyncio.sleep(0.1)
    assert not keys_sent(board)
    await board.pull(SG)
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert keys_sent(board) == [newest]
    await world.gateway.tick()
    assert world.server.reports[1][messages.CONFIRMED] == ["lamp"] and len(world.server.reports) == 2
    await world.gateway.tick()
    assert len(world.server.reports) == 2


async def test_a_pne_that_is_heard_between_two_tries_is_not_kept_waiting(world):
    board = await world.board("lamp", SG)
    board.reachable = False
    world.gateway._carried._pacing = carried_keys.Pacing(confirmation_cost_s=0.001, unicast_retry_s=600.0)
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_unanswered"])
    await board.pull(SG)
    await world.until(lambda: world.gateway.counters["carried_unanswered"] == 2)
    await asyncio.sleep(0.05)
    assert status(world).tries == 2  # what was heard before this try is no reason for another one
    board.reachable = True
    await board.pull(SG)
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert status(world).tries == 3


@pytest.mark.req("SEC-27")
async def test_a_repeated_request_is_answered_and_not_sent_twice_at_once(world):
    board = await world.board("lamp", SG)
    release, opened = asyncio.Event(), board.take

    async def take(message):
        board.heard_unicast.append(messages.decode(message))
        await release.wait()
        board.heard_unicast.pop()
        return await opened(message)

    board.take = take
    fields = await world.server.wrap(SG, "lamp")
    await world.until(lambda: keys_sent(board))
    for _ in range(3):
        assert await send(world, fields) == b""
    await asyncio.sleep(0.05)
    assert len(keys_sent(board)) == 1
    release.set()
    await world.until(lambda: world.gateway.counters["carried_responses"])
    await send(world, fields)  # the Server has not got the response: the PNE is asked once more
    await world.until(lambda: world.gateway.counters["carried_responses"] == 2)
    assert len(keys_sent(board)) == 2 == status(world).tries


@pytest.mark.req("CPNS-GKM-82", "SEC-06")
@pytest.mark.parametrize("how", ["newer key", "expelled"])
async def test_a_response_to_what_is_not_wanted_any_more_stays_here(world, how):
    board = await world.board("lamp", SG)
    release, opened = asyncio.Event(), board.take

    async def late(message):
        board.take = opened
        answer = await opened(message)
        await release.wait()
        return answer

    board.take = late
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: keys_sent(board))
    if how == "expelled":
        await world.server.expel(SG, "lamp")
    else:
        new_key(world)
        await world.server.wrap(SG, "lamp")
        await world.until(lambda: world.gateway.counters["carried_responses"])
    release.set()
    await asyncio.sleep(0.05)
    assert [each[messages.VERSION] for each in world.server.responses] == ([65538] if how == "newer key" else [])


@pytest.mark.req("SEC-02")
async def test_a_gateway_that_is_an_old_copy_carries_nothing(world):
    away, lamp = await world.board("away", SG), await world.board("lamp", SG)
    away.reachable = False
    await world.server.wrap(SG, "away")
    await world.until(lambda: status(world, "away").stage == "unreachable")
    with world.store.transaction():
        world.store.pn.stop("an old copy")
    with pytest.raises(NotAllowed):
        await world.server.wrap(SG, "lamp")
    away.reachable = True
    world.gateway._carried.heard("away")
    await asyncio.sleep(0.05)
    assert not keys_sent(away) and not keys_sent(lamp)


@pytest.mark.req("SEC-02")
async def test_versions_are_compared_before_the_first_key_is_acknowledged(world):
    await world.board("lamp", SG)
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    world.server.group(SG).accepted[PN] = 65540
    await world.close()
    world.open()  # and not started: nothing was compared yet
    new_key(world)
    with pytest.raises(NotAllowed):
        await world.server.wrap(SG, "lamp")
    assert "65540" in world.gateway.administration.stop_reason or "1.4" in world.gateway.administration.stop_reason


async def test_version_0_is_no_version(world):
    await world.board("lamp", SG)
    with pytest.raises(Stale):
        await send(world, request(version=0))
    assert not world.gateway._carried._kept


async def test_the_response_waits_for_the_uplink(world):
    await world.board("lamp", SG)
    world.server.up = False
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: status(world).returned == "1")
    assert status(world).stage == "pending"
    world.server.up = True
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert not world.gateway.counters["carried_responses_lost"]


@pytest.mark.req("CPNS-GKM-82", "SEC-25")
async def test_a_response_that_the_server_cannot_use_is_passed_once_and_confirms_nothing(world):
    await world.board("lamp", SG)
    answer, got = world.server.answer, []

    async def forged(pn_id, message):
        if messages.decode(message)[0] != numbers.S_GROUP_KEY_DELIVERY_RESPONSE:
            return await answer(pn_id, message)
        got.append(message)
        failure = {messages.RETURN: "2", messages.PNID: PN, messages.ERROR: numbers.ERROR_NOT_AUTHENTIC}
        return messages.encode(numbers.S_GROUP_KEY_DELIVERY_RESPONSE, failure)

    world.server.answer = forged
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: status(world).stage == "refused")
    await world.gateway.tick()
    assert len(got) == 1 == world.gateway.counters["carried_responses_unwanted"] and not world.server.reports


async def test_a_response_that_finds_no_uplink_is_given_up(world):
    await world.board("lamp", SG)
    world.server.up = False
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses_lost"])
    assert not world.server.responses


@pytest.mark.req("SEC-06")
@pytest.mark.parametrize("how", ["expelled", "leaves", "retired", "deleted"])
async def test_what_is_carried_for_a_pne_vanishes_in_the_step_that_removes_it(world, how):
    board = await world.board("lamp", SG)
    board.reachable = False
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_unanswered"])
    board.reachable = True
    if how == "expelled":
        await world.server.expel(SG, "lamp")
    elif how == "leaves":
        await board.leave(SG)
    elif how == "retired":
        world.gateway.administration.retire_pne("lamp", Cause.LOST)
    else:
        fields = {messages.SG_ID: SG, messages.VERSION: 65538}
        await world.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
    assert not world.gateway.administration.carried(SG) and not world.gateway._carried._kept
    world.gateway._carried.heard("lamp")
    await asyncio.sleep(0.2)
    assert not keys_sent(board) and not world.server.responses


@pytest.mark.req("SEC-06")
async def test_nothing_is_sent_while_the_members_are_not_known_for_certain(world):
    board = await world.board("lamp", SG)
    with world.store.transaction():
        world.store.inventory.want_revision(SG, 9)
    await world.server.wrap(SG, "lamp")
    await asyncio.sleep(world.pacing.unicast_retry_s * 10)  # longer than its tries take
    assert not keys_sent(board) and (status(world).stage, status(world).tries) == ("pending", 0)
    world.server.group(SG).revision[PN] = 9
    await world.server.inventory(SG)
    await world.until(lambda: world.gateway.counters["carried_responses"])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (request("nobody"), Unknown),
        (request("plug"), NotMember),
        (request(sg_id="alarm.of.another.home"), Unknown),
        (request(version=65536), Stale),
    ],
)
async def test_a_request_that_is_not_for_a_member_here_is_refused_and_changes_nothing(world, fields, error):
    lamp, plug = await world.board("lamp", SG), await world.board("plug")
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    before, commits = world.store.inventory.groups(), world.store.database.commits
    with pytest.raises(error):
        await send(world, fields)
    assert world.gateway.counters["server_refused"] == 1
    assert world.store.inventory.groups() == before and world.store.database.commits == commits
    await asyncio.sleep(0.05)
    assert len(keys_sent(lamp)) == 1 and not keys_sent(plug) and len(world.server.responses) == 1


@pytest.mark.parametrize("wrapped", [bytes(23), bytes(25), None])
async def test_a_request_with_two_infos_or_another_length_is_malformed(world, wrapped):
    from cpns import cborlite

    await world.board("lamp", SG)
    info = {1: "lamp", 2: wrapped or bytes(24)}
    message = {0: numbers.S_GROUP_KEY_DELIVERY_REQUEST, **request()}
    message[messages.GROUP_KEY_INFO] = info if wrapped else [info, info]
    with pytest.raises(MalformedMessage):
        await world.gateway.handle_server(cborlite.encode(message))
    assert world.gateway.counters["server_refused"] == 1 and not world.gateway._carried._kept


async def test_a_key_that_overtakes_the_answer_to_the_join_waits_for_it(world):
    board = await world.board("lamp")
    sent = []
    answer = world.server.answer

    async def slow(pn_id, message):
        answered = await answer(pn_id, message)
        if messages.decode(message)[0] == numbers.JOIN_REQUEST:
            world.spawn(world.server.wrap(SG, "lamp"))
            for _ in range(20):
                await asyncio.sleep(0)
        sent.append(answered)
        return answered

    world.server.answer = slow
    await board.join(SG)
    await world.until(lambda: world.gateway.counters["carried_responses"])
    assert board.keys[SG]


async def test_what_is_kept_is_bounded(world, monkeypatch):
    monkeypatch.setattr(carried_keys, "CARRIED_MAX", 1)
    for name in ("lamp", "plug"):
        (await world.board(name, SG)).reachable = False
    fields = await world.server.wrap(SG, "lamp")
    with pytest.raises(TooMany):
        await world.server.wrap(SG, "plug")
    assert await send(world, fields) == b""


@pytest.mark.req("SEC-06")
async def test_a_disk_that_is_full_keeps_no_removed_pne_and_refuses_new_versions(world):
    await world.board("lamp", SG)
    with world.full_disk(), pytest.raises(CpnsError):
        await world.server.wrap(SG, "lamp")
    assert not world.gateway._carried._kept
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: world.gateway.counters["carried_responses"])


async def test_boards_that_do_not_answer_leave_room_for_others(tmp_path):
    """Neither do wrapped keys hold up 1.0 deliveries, nor the other way round."""
    world = await World(tmp_path / "gw", broadcast=False, height=11).start()
    world.server.group(SG).end_to_end = True
    new_key(world)
    names = [f"away{i}" for i in range(100)]
    for name in names:
        await world.board(name, SG, "light", gkdk=False)
    hanging = asyncio.Event()

    async def silent(message):
        await hanging.wait()

    for name in names:
        world.boards[name].take = silent
    lamp = await world.board("lamp", SG, "light", gkdk=False)
    for name in names:
        await world.server.wrap(SG, name)
    await world.server.rekey("light")
    await world.server.wrap(SG, "lamp")
    await world.until(lambda: lamp.version("light") and world.server.responses)
    hanging.set()
    await world.close()
