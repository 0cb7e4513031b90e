"""A Group Key comes from the Server and reaches the members (CPNS-GKM-07..18, -28..38, -62..75)."""

import asyncio
from dataclasses import replace

import pytest

from cpns import broadcast_object, messages, numbers
from cpns.errors import MalformedMessage, NotAllowed
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.store.errors import StoreFailed
from tests.unit.gateway_world import FAST, PN, World
from tests.unit.scripted_medium import ScriptedMedium


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


def unicast_keys(board):
    return [fields for code, fields in board.heard_unicast if code == numbers.GROUP_KEY_DELIVERY_REQUEST]


@pytest.mark.req("CPNS-GKM-10", "CPNS-GKM-29", "CPNS-GKM-30", "CPNS-GKM-41", "CPNS-GKM-42")
async def test_the_server_is_answered_before_anything_is_delivered(world):
    board = await world.board("lamp", "light")
    await world.board("plain", "light", gkdk=False)
    server = world.server.group("light")
    server.version, server.key = 65537, bytes(range(16))
    request = {
        messages.SG_ID: "light",
        messages.GROUP_KEY: [(server.key, None)],
        messages.VERSION: 65537,
        messages.ACTIVATION: 0,
        messages.REASON: 3,
        messages.REVISION: 2,
    }
    left = asyncio.Event()
    answer = await world.gateway.handle_server(messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, request), left)
    assert messages.decode(answer) == (
        numbers.GROUP_KEY_DELIVERY_RESPONSE,
        {messages.RESULT: "1", messages.SG_ID: "light", messages.VERSION: 65537},
    )
    assert world.store.group_keys.newest("light").key == server.key  # stored before it was answered
    assert not world.gateway.administration.delivery("light")[0]  # nor has it chosen how to deliver
    await asyncio.sleep(0.1)  # what had been begun would be there by now
    assert not world.air and not world.boards["plain"].heard_unicast
    left.set()
    await world.delivered("light")
    assert board.keys["light"][65537] == server.key


@pytest.mark.req("CPNS-GKM-17", "CPNS-GKM-18", "CPNS-GKM-35", "CPNS-GKM-36", "CPNS-GKM-63", "CPNS-GKM-69")
async def test_broadcast_is_one_signed_object_under_the_stored_gkek(world):
    for i in range(6):
        await world.board(f"b{i}", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 1
    received = broadcast_object.parse(world.air[0])
    stored = world.store.inventory.gkek("light")[0].indexes
    assert b"".join(received.entries[i : i + 2] for i in range(0, len(received.entries), 18)) == stored
    assert all(not unicast_keys(board) for board in world.boards.values())
    assert world.server.reports[-1][messages.CONFIRMED] == [f"b{i}" for i in range(6)]


@pytest.mark.req("CPNS-GKM-14", "CPNS-GKM-33", "CPNS-GKM-65", "CPNS-GKM-12", "CPNS-GKM-64", "CPNS-GKM-41")
async def test_unicast_is_one_request_over_the_session_of_each_member(tmp_path):
    world = await World(tmp_path / "gw", broadcast=False).start()
    for i in range(3):
        await world.board(f"b{i}", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert not world.air
    for board in world.boards.values():
        (request,) = unicast_keys(board)
        assert request[messages.VERSION] == version
    await world.close()


@pytest.mark.req("Q-20")
async def test_a_mixed_group_is_served_in_one_delivery(world):
    await world.board("lamp", "light")
    await world.board("shade", "light")
    await world.board("plain", "light", gkdk=False)
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 1
    assert [len(unicast_keys(world.boards[name])) for name in ("lamp", "shade", "plain")] == [0, 0, 1]
    assert {board.version("light") for board in world.boards.values()} == {version}


@pytest.mark.req("CPNS-GKM-72", "CPNS-GKM-75")
async def test_only_members_can_open_the_broadcast(world):
    for i in range(8):
        await world.board(f"b{i}", *(["light"] if i % 3 else ["door"]))
    await world.server.rekey("light")
    await world.delivered("light")
    for i, board in enumerate(world.boards.values()):
        assert (board.opens(world.air[-1], "light") is not None) == bool(i % 3)


async def test_who_misses_the_broadcast_gets_another_and_then_unicast(world):
    boards = [await world.board(f"b{i}", "light") for i in range(6)]
    for board in boards[:4]:
        board.deaf = True
    boards[5].reachable = False
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert 2 <= len(world.air) <= world.pacing.rounds_max
    assert [board.version("light") for board in boards] == [version] * 6
    assert [len(unicast_keys(board)) for board in boards] == [1, 1, 1, 1, 0, 0]


async def test_a_large_group_gets_copies_at_first_and_one_datagram_for_each_repeat(world):
    for i in range(25):
        board = await world.board(f"b{i}", "light")
        board.deaf, board.reachable = True, False
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 2 + (world.pacing.rounds_max - 1)


@pytest.mark.req("SEC-14")
async def test_an_unreachable_member_is_reported_and_confirmed_when_it_proves_what_it_pulled(world):
    await world.board("lamp", "light")
    ghost = await world.board("ghost", "light")
    ghost.deaf, ghost.reachable = True, False
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert world.server.reports[-1][messages.UNREACHABLE] == ["ghost"]
    assert world.beacons and {heard.version for heard in world.beacons} == {version}  # it may hear that, and ask
    ghost.reachable = True
    answer = await ghost.pull("light")
    assert answer[messages.VERSION] == version and messages.GROUP_KEY in answer
    await asyncio.sleep(0.1)
    assert world.store.deliveries.states("light", version)["ghost"] == "unreachable"  # the answer may be lost
    await ghost.confirm("light", version, ghost.records[-1])
    await world.until(lambda: len(world.server.reports) == 2)
    assert world.server.reports[-1][messages.CONFIRMED] == ["ghost", "lamp"]


@pytest.mark.req("SEC-14")
async def test_a_pull_whose_answer_is_lost_leaves_the_pne_to_be_reached(tmp_path):
    world = await World(tmp_path / "gw", pacing=replace(FAST, unicast_retry_s=0.3)).start()
    board = await world.board("lamp", "light")
    board.deaf, board.reachable = True, False
    version = await world.server.rekey("light")
    await world.until(lambda: world.beacons)
    assert messages.GROUP_KEY in await board.pull("light")
    board.keys.clear()  # it never came
    board.reachable = True
    await asyncio.sleep(0.1)
    assert world.gateway.administration.groups()[0].states == {"pending": 1} and not unicast_keys(board)
    await world.delivered("light")
    assert len(unicast_keys(board)) == 1 and board.version("light") == version
    assert world.server.reports[-1][messages.CONFIRMED] == ["lamp"]
    await world.close()


@pytest.mark.req("SEC-14")
async def test_a_member_that_shows_later_that_it_holds_the_key_is_confirmed(world):
    board = await world.board("lamp", "light")
    board.deaf, board.reachable = True, False
    version = await world.server.rekey("light")
    await world.delivered("light")
    await board.pull("light")
    assert messages.GROUP_KEY not in await board.pull("light")
    await world.until(lambda: world.store.deliveries.states("light", version) == {"lamp": "confirmed"})


@pytest.mark.req("SEC-13")
async def test_however_many_cannot_be_reached_there_is_one_beacon_a_second(world):
    for i in range(6):
        board = await world.board(f"b{i}", "light", gkdk=False)
        board.reachable = False
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.server.reports[-1][messages.UNREACHABLE]) == 6
    assert [heard.version for heard in world.beacons] == [version]
    assert not world.air


@pytest.mark.req("SEC-24")
async def test_lost_replay_windows_are_told_to_the_server_once(world):
    lamp = await world.board("lamp", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")

    def told():
        return [fields for _, fields in world.server.heard if messages.WINDOWS_LOST in fields]

    fields = {messages.PNE_ID: "lamp", messages.SG_ID: "light", messages.VERSION: version}
    for lost in (version - 1, version, version):  # of a key that is over; of this one; once more
        await lamp.ask(numbers.KEY_PULL_REQUEST, {**fields, messages.WINDOWS_LOST: lost})
    await world.until(told)
    assert [entry[messages.WINDOWS_LOST] for entry in told()] == [version]


async def test_no_radio_at_the_moment_means_unicast(world):
    boards = [await world.board(f"b{i}", "light") for i in range(3)]
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    assert [len(unicast_keys(board)) for board in boards] == [1, 1, 1]


async def test_the_same_request_again_is_answered_again_and_delivered_once(world):
    await world.board("lamp", "light")
    await world.server.rekey("light")
    assert (await world.server.send_key("light"))[messages.RESULT] == "1"
    await world.delivered("light")
    await asyncio.sleep(0.1)
    assert len(world.air) == 1


@pytest.mark.req("SEC-29", "SEC-06")
async def test_a_delivery_that_cannot_be_stored_has_not_begun_and_begins_later(world, monkeypatch):
    """Cover and recipients are on the disk before anything is signed; until then there is no delivery to confirm."""
    monkeypatch.setattr("gateway_agent.core.server_messages.STORE_RETRY_S", 0.01)
    board = await world.board("lamp", "light")
    tried = []

    def full(*arguments):
        tried.append(arguments)
        raise StoreFailed("The disk is full.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(world.store.deliveries, "start", full)
        version = await world.server.rekey("light")
        await world.until(lambda: len(tried) > 1)
        assert world.gateway.administration.delivery("light") == (0, {})
        assert not world.air and not board.heard_unicast and not world.signer.signed
    await world.delivered("light")
    assert board.version("light") == version and world.gateway.administration.delivery("light")[1] == {"confirmed": 1}


@pytest.mark.req("SEC-29")
async def test_a_version_has_one_key(world):
    await world.board("lamp", "light")
    await world.server.rekey("light")
    world.server.group("light").key = b"another key 16 o"
    answer = await world.server.send_key("light")
    assert (answer[messages.RESULT], answer[messages.ERROR]) == ("2", numbers.ERROR_NOT_ALLOWED)


async def test_an_older_version_is_refused(world):
    await world.board("lamp", "light")
    await world.server.rekey("light")
    world.server.group("light").version -= 1
    answer = await world.server.send_key("light")
    assert answer[messages.ERROR] == numbers.ERROR_STALE


@pytest.mark.req("SEC-12")
@pytest.mark.parametrize("elements", [[(bytes(24), "1.0001")], [(bytes(16), "1.0001"), (bytes(16), "1.0003")]])
async def test_the_server_sends_one_plain_key_of_16_octets(world, elements):
    await world.board("lamp", "light")
    fields = {
        messages.SG_ID: "light",
        messages.GROUP_KEY: elements,
        messages.VERSION: 9,
        messages.ACTIVATION: 0,
        messages.REASON: 0,
    }
    answer = await world.server.tell(PN, numbers.GROUP_KEY_DELIVERY_REQUEST, fields)
    assert answer[messages.ERROR] == numbers.ERROR_MALFORMED


@pytest.mark.req("SEC-05")
@pytest.mark.parametrize(
    ("reason", "unix", "expected"),
    [
        (numbers.REASON_LEAVE, 1_800_000_000, 0),
        (numbers.REASON_PERIODIC, 1_800_000_000, 1_800_000_600),
        (numbers.REASON_PERIODIC, 0, 0),
    ],
)
async def test_a_leave_and_a_gateway_without_time_sign_activation_0(world, reason, unix, expected):
    for i in range(3):
        await world.board(f"b{i}", "light")
    world.clock.unix_time = unix
    group = world.server.group("light")
    group.version, group.key = 65537, bytes(16)
    fields = {
        messages.SG_ID: "light",
        messages.GROUP_KEY: [(group.key, None)],
        messages.VERSION: group.version,
        messages.ACTIVATION: 1_800_000_600,
        messages.REASON: reason,
        messages.REVISION: 3,
    }
    await world.server.tell(PN, numbers.GROUP_KEY_DELIVERY_REQUEST, fields)
    await world.delivered("light")
    received = broadcast_object.parse(world.air[0])
    assert (received.activation, received.reason) == (expected, reason)


@pytest.mark.req("SEC-05")
async def test_an_activation_more_than_a_day_ahead_is_refused(world):
    await world.board("lamp", "light")
    group = world.server.group("light")
    group.version, group.key = 65537, bytes(16)
    fields = {
        messages.SG_ID: "light",
        messages.GROUP_KEY: [(bytes(16), None)],
        messages.VERSION: 65537,
        messages.ACTIVATION: world.clock.unix_time + 86_401,
        messages.REASON: numbers.REASON_PERIODIC,
    }
    answer = await world.server.tell(PN, numbers.GROUP_KEY_DELIVERY_REQUEST, fields)
    assert answer[messages.ERROR] == numbers.ERROR_NOT_ALLOWED


@pytest.mark.req("SEC-03")
async def test_a_jump_receivers_would_refuse_by_broadcast_goes_by_unicast(world):
    boards = [await world.board(f"b{i}", "light") for i in range(3)]
    await world.server.rekey("light")
    await world.delivered("light")
    world.server.group("light").version += 17 << 16
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.air) == 1
    assert [len(unicast_keys(board)) for board in boards] == [1, 1, 1]


@pytest.mark.req("SEC-04")
async def test_a_newcomer_does_not_get_the_key_of_before_his_time(world):
    """He joins while the key goes out: its next copies are made without him, though he is a member and has a GKDK."""
    boards = [await world.board(f"b{i}", "light") for i in range(6)]
    for board in boards:
        board.deaf, board.reachable = True, False
    version = await world.server.rekey("light")
    await world.until(lambda: len(world.air) == 1)
    new = await world.board("new", "light")
    joined = len(world.air)
    assert new.floors["light"] == version
    assert messages.GROUP_KEY not in await new.pull("light")
    await world.delivered("light")
    assert len(world.air) > joined
    assert all(boards[0].opens(datagram, "light") is not None for datagram in world.air)
    assert all(new.opens(datagram, "light") is None for datagram in world.air)
    assert not unicast_keys(new)
    later = await world.server.rekey("light", numbers.REASON_JOIN)
    await world.delivered("light")
    assert new.version("light") == later


async def test_a_key_that_overtakes_its_join_waits_for_it(world):
    """The Server's key may arrive before its JoinResponse: it is stored, answered, delivered after the join."""
    group = world.server.group("light")
    group.revision[PN], group.version, group.key = 1, 65537, bytes(16)
    answer = await world.server.send_key("light")
    assert answer[messages.RESULT] == "1"
    await asyncio.sleep(0.05)
    assert not world.server.reports
    group.members[PN] = {"lamp"}
    group.version = 65536  # floor told to the newcomer
    board = await world.board("lamp", gkdk=False)
    await board.join("light")
    group.version = 65537
    await world.server.inventory("light")
    await world.until(lambda: board.version("light") == 65537)


async def test_xml_is_answered_in_xml(world):
    from cpns import xml_form

    await world.board("lamp", "light")
    fields = {messages.SG_ID: "light", messages.PN_ID: PN, messages.REVISION: 2, messages.MEMBER: ["lamp"]}
    answer = await world.gateway.handle_server(xml_form.encode(numbers.INVENTORY_UPDATE_REQUEST, fields))
    assert answer.startswith(b"<") and xml_form.decode(answer)[1][messages.RESULT] == "1"


@pytest.mark.req("SEC-15", "SEC-04", "Q-23")
async def test_delete_wipes_keys_keeps_the_floor_and_never_reuses_the_alias(world):
    board = await world.board("lamp", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    alias = world.store.inventory.group("light").alias
    fields = {messages.SG_ID: "light", messages.VERSION: version}
    assert (await world.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, fields))[messages.RESULT] == "1"
    assert world.store.group_keys.newest("light") is None and not world.store.inventory.members("light")
    assert world.store.inventory.group_or_deleted("light").version == version
    await world.until(lambda: len(world.air) == 2)
    deleted = broadcast_object.parse(world.air[1])
    assert isinstance(deleted, broadcast_object.ReceivedDelete) and deleted.version == version
    assert (await board.pull("light"))[messages.ERROR] == numbers.ERROR_UNKNOWN
    world.server.groups.pop("light")
    await board.join("light")
    assert world.store.inventory.group("light").alias > alias
    group = world.server.group("light")
    group.version, group.key = version, bytes(16)
    assert (await world.server.send_key("light"))[messages.ERROR] == numbers.ERROR_STALE


@pytest.mark.req("SEC-16", "CPNS-GKM-43")
@pytest.mark.parametrize(
    "code",
    [
        numbers.GKDK_ASSIGNMENT_REQUEST,
        numbers.JOIN_REQUEST,
        numbers.LEAVE_REQUEST,
        numbers.CREATE_SERVICE_GROUP_REQUEST,
        numbers.DELETE_SERVICE_GROUP_REQUEST,
        numbers.KEY_PULL_REQUEST,
    ],
)
async def test_a_message_that_names_another_pne_is_refused(world, code):
    await world.board("lamp", "light")
    await world.board("mallory")
    fields = {messages.PNE_ID: "lamp"}
    if code != numbers.GKDK_ASSIGNMENT_REQUEST:
        fields[messages.SG_ID] = "light"
    if code in (numbers.DELETE_SERVICE_GROUP_REQUEST, numbers.KEY_PULL_REQUEST):
        fields[messages.VERSION] = 1
    with pytest.raises(NotAllowed):
        await world.gateway.handle_pne("mallory", messages.encode(code, fields))


@pytest.mark.req("SEC-15")
@pytest.mark.parametrize("code", [numbers.GROUP_KEY_DELIVERY_REQUEST, numbers.INVENTORY_UPDATE_REQUEST])
async def test_a_pne_cannot_speak_as_the_server(world, code):
    await world.board("lamp", "light")
    fields = {messages.SG_ID: "light"}
    if code == numbers.INVENTORY_UPDATE_REQUEST:
        fields |= {messages.PN_ID: PN, messages.REVISION: 99}
    else:
        fields |= {messages.GROUP_KEY: [(bytes(16), None)], messages.VERSION: 9}
        fields |= {messages.ACTIVATION: 0, messages.REASON: 0}
    with pytest.raises(NotAllowed):
        await world.gateway.handle_pne("lamp", messages.encode(code, fields))


async def test_octets_that_are_no_message_are_refused(world):
    for octets in (b"", b"\xff", b"\xa0", bytes(9000)):
        with pytest.raises(MalformedMessage):
            await world.gateway.handle_pne("lamp", octets)
        with pytest.raises(MalformedMessage):
            await world.gateway.handle_server(octets)


async def test_a_thousand_pnes_cost_at_most_20_commits(tmp_path):
    """From the Server's request to the report: SD cards do 20 to 200 synced commits a second."""
    policy = DeliveryPolicy(method="broadcast", leisure_ms_per_pne=0.5)
    pacing = Pacing(confirmation_cost_s=0.0005, answer_s=0.3)
    medium = ScriptedMedium(gap=0.1, loss=0.1)
    world = World(tmp_path / "gw", policy=policy, pacing=pacing, medium=medium, height=11)
    await world.start()
    group = world.server.group("light")
    names = [f"b{i}" for i in range(1000)]
    with world.store.transaction():
        for name in names:
            world.gateway.administration.register_pne(name)
    for name in names:
        board = await world.board(name)
        board.aliases["light"], board.floors["light"] = 1, 0
    group.members[PN], group.revision[PN] = set(names), 1
    await world.server.inventory("light")
    spread = asyncio.get_running_loop()
    for board in world.boards.values():
        board.hear = spread_over(spread, board, 0.5)
    before = world.store.database.commits
    begun = spread.time()
    await world.server.rekey("light")
    await world.delivered("light", 30)
    await asyncio.sleep(0.05)
    commits = world.store.database.commits - before
    print(f"\n1,000 PNEs: {commits} commits, {spread.time() - begun:.2f} s, {len(world.air)} datagrams")
    assert sum(len(report[messages.CONFIRMED]) for report in world.server.reports) == 1000
    assert commits <= 20
    await world.close()


def spread_over(loop, board, leisure_s):
    import random

    real, draw = type(board).hear, random.Random(board.pne_id)

    def hear(datagram):
        if draw.random() > 0.1:
            loop.call_later(draw.random() * leisure_s, real, board, datagram)

    return hear
