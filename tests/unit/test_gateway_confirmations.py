"""A confirmation proves slot and key (SEC-14)."""

import asyncio
import dataclasses

import pytest

from cpns import messages, numbers, proof
from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic, NotMember, Stale
from gateway_agent.core import receipts
from gateway_agent.core.delivering.confirmations import SlotUnknown, claim
from tests.unit.gateway_world import FAST, PN, World

PATIENT = dataclasses.replace(FAST, answer_s=3600.0)  # a broadcast is waited for, however slow the machine is


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw", pacing=PATIENT).start()
    for i in range(4):
        board = await world.board(f"b{i}", "light")
        board.deaf = True
        board.reachable = False
    await world.board("outsider")
    await world.server.rekey("light")
    await world.until(lambda: len(world.air) >= 1)
    yield world
    await world.close()


def states(world):
    return world.gateway.administration.groups()[0].states


def confirmation(world, board, **changed):
    """A right confirmation of `board`, with changes."""
    group = world.server.group("light")
    fields = board.response("light", group.version, board.records[-1], group.key)
    return messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, {**fields, **changed.get("fields", {})})


@pytest.mark.req("SEC-14")
async def test_the_right_proof_confirms_and_is_stored_before_it_is_acknowledged(world):
    board = world.boards["b0"]
    assert await world.gateway.handle_pne("b0", confirmation(world, board)) is None
    version = world.server.group("light").version
    assert world.store.deliveries.states("light", version)["b0"] == "confirmed"
    assert states(world)["confirmed"] == 1


@pytest.mark.req("SEC-14")
async def test_nobody_confirms_for_another_with_all_keys_of_all_other_slots(world):
    """b1 to b3 and the outsider pool records and the Group Key; no proof they can make is b0's."""
    group = world.server.group("light")
    victim = world.boards["b0"].records[-1]
    for name in ("b1", "b2", "b3", "outsider"):
        own = world.boards[name].records[-1]
        forged = proof.confirmation(
            own.report_key(), victim.generation, victim.slot, group.version, "1", PN, "light", group.key
        )
        fields = {messages.GENERATION: 1, messages.SLOT: victim.slot, messages.PROOF: forged}
        with pytest.raises(NotAuthentic):
            await world.gateway.handle_pne("b0", confirmation(world, world.boards["b0"], fields=fields))
    assert "confirmed" not in states(world)


@pytest.mark.req("SEC-14", "SEC-16")
async def test_a_right_proof_over_another_session_confirms_nobody(world):
    message = confirmation(world, world.boards["b0"])
    with pytest.raises(NotAuthentic):
        await world.gateway.handle_pne("b1", message)
    with pytest.raises(NotMember):
        await world.gateway.handle_pne("outsider", message)
    assert "confirmed" not in states(world)


@pytest.mark.req("SEC-14")
async def test_a_report_for_v6_never_confirms_v7(world):
    board = world.boards["b0"]
    of_v6 = confirmation(world, board)
    await world.server.rekey("light")
    with pytest.raises(Stale):
        await world.gateway.handle_pne("b0", of_v6)
    version = world.server.group("light").version
    with pytest.raises(NotAuthentic):
        fields = dict(messages.decode(of_v6)[1])
        fields[messages.VERSION] = version
        await world.gateway.handle_pne("b0", messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))
    assert "confirmed" not in states(world)


@pytest.mark.req("SEC-14")
async def test_who_did_not_open_the_key_has_no_proof(world):
    board = world.boards["b0"]
    group = world.server.group("light")
    fields = board.response("light", group.version, board.records[-1], bytes(16))
    with pytest.raises(NotAuthentic):
        await world.gateway.handle_pne("b0", messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))


@pytest.mark.req("SEC-14")
async def test_a_broadcast_is_not_confirmed_without_proof_nor_with_half_of_one(world):
    version = world.server.group("light").version
    bare = {messages.RESULT: "1", messages.SG_ID: "light", messages.VERSION: version}
    whole = {messages.GENERATION: 1, messages.SLOT: world.boards["b0"].records[-1].slot, messages.PROOF: bytes(8)}
    halves = [{**bare, **{label: whole[label] for label in whole if label != missing}} for missing in whole]
    for fields, error in ((bare, NotAllowed), *((half, MalformedMessage) for half in halves)):
        with pytest.raises(error):
            await world.gateway.handle_pne("b0", messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))


async def test_a_removed_member_confirms_nothing(world):
    message = confirmation(world, world.boards["b0"])
    await world.server.expel("light", "b0")
    with pytest.raises(NotMember):
        await world.gateway.handle_pne("b0", message)


async def test_a_board_that_could_not_use_the_broadcast_gets_unicast_at_once(world):
    board = world.boards["b0"]
    board.reachable = True
    fields = {messages.RESULT: "2", messages.SG_ID: "light", messages.VERSION: world.server.group("light").version}
    assert await world.gateway.handle_pne("b0", messages.encode(4, fields)) is None
    await world.until(lambda: board.version("light") == world.server.group("light").version)


@pytest.mark.req("SEC-19")
async def test_a_confirmation_that_is_repeated_costs_no_commit_and_no_report(world):
    board = world.boards["b0"]
    await world.gateway.handle_pne("b0", confirmation(world, board))
    commits, reports = world.store.database.commits, len(world.server.reports)
    for _ in range(20):
        assert await world.gateway.handle_pne("b0", confirmation(world, board)) is None
    assert (world.store.database.commits, len(world.server.reports)) == (commits, reports)
    assert states(world)["confirmed"] == 1


@pytest.mark.req("SEC-06")
async def test_what_a_pull_began_before_the_servers_word_ends_when_the_delivery_goes_on(world):
    """One delivery of a group runs: what another one sends, a removal would not take back."""
    world.server.up = False
    await world.restart()
    board = world.boards["b0"]
    assert messages.GROUP_KEY in await board.pull("light")
    board.reachable = world.server.up = True
    await world.gateway.tick()
    await world.until(lambda: len(world.air) > 1)
    await asyncio.sleep(60)
    assert not board.heard_unicast


async def test_confirmations_that_the_store_refuses_are_stored_when_there_is_room(world):
    version = world.server.group("light").version
    with world.full_disk():
        for board in world.boards.values():
            if board.pne_id != "outsider":
                world.spawn(world.gateway.handle_pne(board.pne_id, confirmation(world, board)))
        await asyncio.sleep(1)
        assert "confirmed" not in states(world) and not world.server.reports
    await world.delivered("light")
    assert world.server.reports[-1][messages.CONFIRMED] == ["b0", "b1", "b2", "b3"]
    assert set(world.store.deliveries.states("light", version).values()) == {"confirmed"}


@pytest.mark.req("SEC-19")
async def test_who_speaks_of_an_older_version_after_a_restart_stops_nobodys_confirmations(world):
    older = world.server.group("light").version
    for name in ("b0", "b1", "b2", "b3"):
        await world.gateway.handle_pne(name, confirmation(world, world.boards[name]))
    await world.restart()
    await world.server.rekey("light")
    await world.until(lambda: len(world.air) >= 2)
    for name in ("b0", "b1", "b2", "b3"):
        await world.gateway.handle_pne(name, confirmation(world, world.boards[name]))
    await world.restart()
    fields = {messages.RESULT: "2", messages.SG_ID: "light", messages.VERSION: older}
    with pytest.raises(Stale):
        await world.gateway.handle_pne("b0", messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))
    assert world.gateway.administration.delivery("light")[0] != older


@pytest.mark.req("SEC-02")
async def test_proofs_of_a_generation_that_has_ended_are_no_sign_of_an_old_copy(world):
    """After a restore boards prove what they pulled before they were given their new GKDKs."""
    with world.store.transaction():
        world.store.pn.set_last_generation(257)
    for name in ("b0", "b1", "b2"):
        fields = {messages.GENERATION: 200}
        with pytest.raises(Stale):
            await world.gateway.handle_pne(name, confirmation(world, world.boards[name], fields=fields))
    assert world.gateway.administration.stop_reason is None


@pytest.mark.req("SEC-02", "SEC-19")
async def test_boards_registered_anew_that_prove_with_their_old_slots_are_no_sign_of_an_old_copy(world):
    for name in ("b0", "b1", "b2"):
        board = world.boards[name]
        world.gateway.administration.register_pne(name)
        await board.join("light")
        board.reachable = False
        await board.pull("light")
        with pytest.raises(Stale):
            await world.gateway.handle_pne(name, confirmation(world, board))
    assert world.gateway.administration.stop_reason is None and not world.gateway.counters["peers_ahead"]


@pytest.mark.req("SEC-02", "SEC-34")
async def test_boards_that_claim_foreign_slots_are_an_alarm_and_stop_nothing(world):
    for number, name in enumerate(("b0", "b1", "b2")):
        fields = {messages.SLOT: 60 + number}
        with pytest.raises(SlotUnknown):
            await world.gateway.handle_pne(name, confirmation(world, world.boards[name], fields=fields))
    assert world.gateway.administration.stop_reason is None
    assert "3 of the boards" in world.gateway.administration.alarms()[0].text


@pytest.mark.req("SEC-02")
async def test_a_gateway_that_must_be_an_old_copy_ends_the_delivery_under_way(world):
    """Nobody has confirmed: there would be more copies."""
    group = world.server.group("light")
    ahead = receipts.make(world.store.pn.receipt_key(), "b0", "light", group.version + 1, 1)
    world.boards["b0"].receipts["light"] = ahead
    await world.boards["b0"].pull("light")
    assert world.gateway.administration.stop_reason is not None
    sent = len(world.air), len(world.beacons)
    await asyncio.sleep(0.3)
    assert (len(world.air), len(world.beacons)) == sent
    assert not any(
        code == numbers.GROUP_KEY_DELIVERY_REQUEST for b in world.boards.values() for code, _ in b.heard_unicast
    )


async def test_confirmations_that_come_together_read_group_and_key_once(world):
    fields = [
        (name, messages.decode(confirmation(world, world.boards[name]))[1]) for name in world.boards if name < "c"
    ]
    statements = []
    with world.store.transaction():
        pass  # what was read before is not remembered
    world.store.database._file.connection.set_trace_callback(statements.append)
    assert all(world.gateway._pne_messages._confirmations.prove(name, claim(each)) for name, each in fields)
    world.store.database._file.connection.set_trace_callback(None)
    assert len(fields) == 4
    for table in ("FROM group_key", "FROM service_group"):
        assert sum(table in statement for statement in statements) == 1


async def test_a_board_is_waited_for_longer_until_it_has_confirmed_a_broadcast_since_its_start(world):
    def first():
        recipients = world.gateway._deliveries._runs["light"].delivery.recipients
        return {name for name, recipient in recipients.items() if recipient.first}

    boards = {name: board for name, board in world.boards.items() if name < "c"}
    assert first() == set(boards)
    for name, board in boards.items():
        await world.gateway.handle_pne(name, confirmation(world, board))
    await world.server.rekey("light")
    assert await began(world) and first() == set()
    for name, board in boards.items():
        await world.gateway.handle_pne(name, confirmation(world, board))
    await world.boards["b0"].pull("light")
    await world.boards["b1"].get_gkdk()
    await world.boards["b2"].join("light")
    await world.server.rekey("light")
    assert await began(world) and first() == {"b0", "b1", "b2"}


async def began(world):
    version = world.server.group("light").version
    await world.until(lambda: world.gateway.administration.delivery("light")[0] == version)
    return True
