"""A removed board reads nothing more (SEC-01, SEC-06, CPNS-GKM-27, -75).

Boards here are attackers too: they keep every GKDK, every key and every frame ever heard.
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from cpns import messages, numbers
from cpns.broadcast_encryption import subset_index
from gateway_agent.core import events
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from gateway_agent.store.store import GatewayStore
from tests.unit.gateway_world import PN, Server, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


def covered(store, sg_id):
    """Slots that the stored GKEK addresses."""
    heights = {row.generation: row.height for row in store.slots.generations()}
    out = set()
    for gkek in store.inventory.gkek(sg_id):
        height = heights[gkek.generation]
        for at in range(0, len(gkek.indexes), 2):
            out |= set(subset_index.slots(height, subset_index.decode(height, gkek.indexes[at : at + 2])))
    return out


def slot_of(store, pne_id):
    return store.slots.active(pne_id, 1).slot


@pytest.mark.req("CPNS-GKM-27", "CPNS-GKM-75")
async def test_every_change_of_members_changes_the_gkek(world):
    seen = []
    for i in range(5):
        await world.board(f"b{i}", "light")
        assert covered(world.store, "light") == {slot_of(world.store, f"b{j}") for j in range(i + 1)}
        seen.append(world.store.inventory.group("light").membership)
    await world.boards["b1"].leave("light")
    await world.server.expel("light", "b2")
    assert covered(world.store, "light") == {slot_of(world.store, name) for name in ("b0", "b3", "b4")}
    seen.append(world.store.inventory.group("light").membership)
    assert seen == sorted(set(seen))


@pytest.mark.req("CPNS-GKM-27")
async def test_a_change_that_is_not_stored_changes_nothing(world, monkeypatch):
    await world.board("a", "light")
    await world.board("b", "light")
    before = (covered(world.store, "light"), world.store.inventory.group("light"))

    def fails(*_):
        raise OSError("the card is full")

    monkeypatch.setattr(world.store.inventory, "put_gkek", fails)
    with pytest.raises(OSError, match="full"):
        await world.server.expel("light", "b")
    assert world.store.inventory.is_member("light", "b")
    assert (covered(world.store, "light"), world.store.inventory.group("light")) == before


@pytest.mark.req("SEC-01", "CPNS-GKM-75")
async def test_all_removed_boards_together_read_nothing_with_all_they_hold(world):
    boards = [await world.board(f"b{i}", "light") for i in range(12)]
    outsiders = [await world.board(f"o{i}", "door") for i in range(4)]
    removed = []
    for i, board in enumerate(boards[:6]):
        if i % 3 == 0:
            await board.leave("light")
        elif i % 3 == 1:
            await world.server.expel("light", board.pne_id)
        else:
            world.gateway.administration.retire_pne(board.pne_id, Cause.LOST)
            await world.until(lambda: not world.store.pn.pending_leaves())
        removed.append(board)
        before = len(world.air)
        version = await world.server.rekey("light")
        await world.delivered("light")
        coalition = [record for attacker in [*removed, *outsiders] for record in attacker.records]
        frames = world.air[before:]
        assert frames
        for frame in frames:
            assert boards[-1].opens(frame, "light") is not None
            assert boards[-1].opens(frame, "light", coalition) is None
        for attacker in removed:
            assert version not in attacker.keys.get("light", {})
        for member in boards[i + 1 :]:
            assert member.version("light") == version


@pytest.mark.req("SEC-01")
async def test_two_homes_one_leave(tmp_path):
    """The leaver of home B opens no object that home A sends, though home A's members did not change."""
    server = Server()
    home_a = await World(tmp_path / "a", server=server).start()
    home_b = await World(tmp_path / "b", server=server, pn_id="pn.b").start()
    for name in ("a1", "a2", "a3"):
        await home_a.board(name, "family")
    for name in ("b1", "b2", "b3"):
        await home_b.board(name, "family")
    leaver = home_b.boards["b1"]
    await server.rekey("family", numbers.REASON_CREATE)
    await home_a.delivered("family")
    old_key = home_a.boards["a1"].keys["family"][server.group("family").version]
    leaver.store("family", server.group("family").version, old_key)
    await leaver.leave("family")
    sent = len(home_a.air)
    await server.rekey("family")
    await home_a.delivered("family")
    new_key = server.group("family").key
    assert home_a.air[sent:]
    for frame in home_a.air[sent:]:
        assert leaver.opens(frame, "family") is None
        assert b"\x00\x00" not in [index_of(frame)[i : i + 2] for i in range(0, len(index_of(frame)), 2)]
    assert new_key not in leaver.keys["family"].values()
    await home_a.close()
    await home_b.close()


def index_of(frame):
    from cpns import broadcast_object

    entries = broadcast_object.parse(frame).entries
    return b"".join(entries[i : i + 2] for i in range(0, len(entries), 18))


@pytest.mark.req("SEC-06")
async def test_an_expelled_board_with_a_live_session_pulls_and_is_refused(world):
    board = await world.board("lamp", "light")
    await world.board("other", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    await world.server.expel("light", "lamp")
    for version in (None, 0):
        answer = await board.pull("light", version)
        assert (answer[messages.RESULT], answer[messages.ERROR]) == ("2", numbers.ERROR_NOT_MEMBER)
        assert messages.GROUP_KEY not in answer


@pytest.mark.req("SEC-06")
async def test_a_unicast_under_way_to_a_leaver_is_taken_back(world):
    await world.board("other", "light")
    leaver = await world.board("lamp", "light", gkdk=False)
    reached = []
    started = asyncio.Event()

    async def slow(message):
        started.set()
        await asyncio.sleep(0.1)
        reached.append(message)

    leaver.take = slow
    await world.server.rekey("light")
    await started.wait()
    await world.server.expel("light", "lamp")
    await world.delivered("light")
    await asyncio.sleep(0.15)
    codes = {messages.decode(message)[0] for message in reached}
    assert codes <= {numbers.DELETE_SERVICE_GROUP_REQUEST}  # it is told that it was expelled
    assert world.server.reports[-1][messages.EXCLUDED] == ["lamp"]


@pytest.mark.req("SEC-06")
async def test_no_repeat_of_the_old_object_goes_out_after_a_leave(world):
    boards = [await world.board(f"b{i}", "light") for i in range(8)]
    for board in boards:
        board.deaf = True
    await world.server.rekey("light")
    await world.until(lambda: len(world.air) == 1)
    await world.server.expel("light", "b0")
    await world.delivered("light")
    assert len(world.air) > 1
    assert boards[0].opens(world.air[0], "light") is not None
    for frame in world.air[1:]:
        assert frame != world.air[0] and boards[0].opens(frame, "light") is None
    assert not [code for code, _ in boards[0].heard_unicast if code == numbers.GROUP_KEY_DELIVERY_REQUEST]


@pytest.mark.req("SEC-06")
async def test_restart_between_leave_and_next_key_repeats_nothing_to_the_leaver(world):
    boards = [await world.board(f"b{i}", "light") for i in range(8)]
    for board in boards:
        board.deaf = True
        board.reachable = False
    await world.server.rekey("light")
    await world.until(lambda: len(world.air) == 1)
    await world.server.expel("light", "b0")
    sent = len(world.air)
    await world.restart()
    await world.until(lambda: len(world.air) > sent)
    for frame in world.air[sent:]:
        assert boards[0].opens(frame, "light") is None
        assert boards[1].opens(frame, "light") is not None


@pytest.mark.req("SEC-06")
async def test_who_leaves_before_an_interrupted_delivery_goes_on_is_excluded_from_it(world):
    boards = [await world.board(f"b{i}", "light") for i in range(8)]
    for board in boards:
        board.deaf, board.reachable = True, False
    version = await world.server.rekey("light")
    await world.until(lambda: len(world.air) == 1)
    world.server.up = False
    await world.restart()  # it waits for the Server's word before it goes on
    await world.server.expel("light", "b0")
    assert world.store.deliveries.states("light", version)["b0"] == "excluded"
    assert len(world.air) == 1
    world.server.up = True
    await world.gateway.tick()
    await world.until(lambda: len(world.air) > 1)
    assert all(boards[0].opens(frame, "light") is None for frame in world.air[1:])
    assert all(boards[1].opens(frame, "light") is not None for frame in world.air[1:])


@pytest.mark.req("SEC-06", "Q-10")
async def test_retiring_a_board_is_a_leave_from_each_group_and_shows_as_exposed(world):
    await world.board("lamp", "light", "door")
    await world.board("other", "light", "door")
    for sg_id in ("light", "door"):
        await world.server.rekey(sg_id)
        await world.delivered(sg_id)
    world.server.up = False
    assert world.gateway.administration.retire_pne("lamp", Cause.LOST) == ["door", "light"]
    assert world.dropped == ["lamp"]
    assert all(status.group.exposed for status in world.gateway.administration.groups())
    await asyncio.sleep(0.05)
    await world.restart()  # what is owed to the Server survives
    world.server.up = True
    await world.gateway.tick()
    left = [fields for code, fields in world.server.heard if code == numbers.LEAVE_REQUEST]
    assert sorted(fields[messages.SG_ID] for fields in left) == ["door", "light"]
    assert {fields[messages.PNE_ID] for fields in left} == {"lamp"}
    await world.server.inventory("light")  # as a Server does after each change
    await world.server.rekey("light")
    await world.delivered("light")
    assert {status.group.sg_id: status.group.exposed for status in world.gateway.administration.groups()} == {
        "door": True,
        "light": False,
    }


@pytest.mark.req("SEC-06", "Q-10")
async def test_of_a_group_that_its_last_board_leaves_nothing_is_exposed(world):
    """The Server sends no more keys of it, so nobody would ever see it end."""
    await world.board("lamp", "light", "door")
    await world.board("other", "door")
    for sg_id in ("light", "door"):
        await world.server.rekey(sg_id)
        await world.delivered(sg_id)
    assert world.gateway.administration.retire_pne("lamp", Cause.LOST) == ["door"]
    assert world.told[-1] == events.Retired("lamp", "lost", ("door",))


@pytest.mark.req("SEC-06", "SEC-31")
async def test_who_comes_under_the_name_of_a_retired_board_gets_another_slot(world):
    """Whoever has the lost one reads nothing that is meant for the new one."""
    lamp = await world.board("lamp", "light")
    await world.board("other", "light")
    stolen = list(lamp.records)
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    await world.until(lambda: not world.store.pn.has_pending_leave("light", "lamp"))
    world.gateway.administration.register_pne("lamp")
    await world.board("lamp", "light")
    assert lamp.records[-1].slot != stolen[-1].slot
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert lamp.version("light") == version and world.air
    assert all(lamp.opens(frame, "light", stolen) is None for frame in world.air)


@pytest.mark.req("SEC-06")
async def test_a_list_from_before_the_retirement_brings_nobody_back(world):
    await world.board("lamp", "light")
    await world.board("other", "light")
    world.server.up = False
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    world.server.group("light").revision[PN] += 1  # the Server does not know yet, and lists the lamp
    await world.server.inventory("light")
    assert not world.store.inventory.is_member("light", "lamp")
    assert world.store.inventory.is_member("light", "other")


@pytest.mark.req("SEC-06")
async def test_a_list_that_names_a_retired_board_does_not_bring_it_back_after_the_server_was_told(world):
    """The Server has answered the leave, so none is on the way any more: only the retirement is left to know it by."""
    await world.board("lamp", "light")
    await world.board("other", "light")
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    await world.until(lambda: not world.store.pn.has_pending_leave("light", "lamp"))
    world.server.group("light").members[PN].add("lamp")
    world.server.group("light").revision[PN] += 1
    await world.server.inventory("light")
    assert not world.store.inventory.is_member("light", "lamp")
    assert world.store.inventory.is_member("light", "other")


@pytest.mark.req("SEC-06")
async def test_a_list_from_before_the_retirement_brings_nobody_back_under_the_name_of_old(world):
    """The board is let in anew, so it is not retired any more: the leave still on the way is all there is to know."""
    await world.board("lamp", "light")
    await world.board("other", "light")
    world.server.up = False
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    world.gateway.administration.register_pne("lamp")
    world.server.group("light").revision[PN] += 1  # the Server does not know yet, and lists the lamp
    await world.server.inventory("light")
    assert world.store.pn.has_pending_leave("light", "lamp")
    assert not world.store.inventory.is_member("light", "lamp")
    assert world.store.inventory.is_member("light", "other")


@pytest.mark.req("SEC-31")
async def test_what_the_server_admitted_for_the_board_of_before_is_not_for_the_next_one_of_its_name(world):
    """The board is retired, and another one let in under its name, while its join is at the Server."""
    lamp = await world.board("lamp")
    answer, asked, goes_on = world.server.answer, asyncio.Event(), asyncio.Event()

    async def slow(pn_id, message):
        answered = await answer(pn_id, message)
        if messages.decode(message)[0] == numbers.JOIN_REQUEST and not asked.is_set():
            asked.set()
            await goes_on.wait()
        return answered

    world.server.answer = slow
    joining = asyncio.create_task(lamp.join("light"))
    await asked.wait()
    world.gateway.administration.retire_pne("lamp", Cause.NEW_CREDENTIAL)
    world.gateway.administration.register_pne("lamp")
    of_the_next = asyncio.create_task(lamp.join("light"))  # waits for its turn in this group
    await world.until(lambda: not world.store.pn.has_pending_retirement("lamp"))
    goes_on.set()
    assert (await joining)[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    assert (await of_the_next)[messages.RESULT] == numbers.RESULT_SUCCESS
    said = [code for code, _ in world.server.heard if code in (numbers.JOIN_REQUEST, numbers.LEAVE_REQUEST)]
    assert said == [numbers.JOIN_REQUEST, numbers.LEAVE_REQUEST, numbers.JOIN_REQUEST]
    await world.gateway.tick()
    assert world.store.inventory.is_member("light", "lamp") and world.server.group("light").members[PN] == {"lamp"}


@pytest.mark.req("SEC-31")
async def test_a_list_from_before_gives_the_next_board_of_a_name_nothing(world):
    """The Server has let the board of before into a group, and the answer was lost: so no leave is on the way."""
    await world.board("other", "light")
    await world.board("lamp")
    world.server.up = False
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    world.gateway.administration.register_pne("lamp")
    world.server.group("light").members[PN].add("lamp")
    world.server.group("light").revision[PN] += 1
    await world.server.inventory("light")
    assert world.store.pn.has_pending_retirement("lamp")
    assert not world.store.inventory.is_member("light", "lamp")


@pytest.mark.req("SEC-06")
async def test_a_retired_board_gets_neither_gkdk_nor_membership(world):
    board = await world.board("lamp", "light")
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    assert (await board.get_gkdk())[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    assert (await board.join("light"))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED


@pytest.mark.req("SEC-06")
async def test_a_board_retired_while_the_server_is_asked_does_not_join(world):
    board = await world.board("lamp")
    answering = world.server.answer

    async def slow(pn_id, message):
        answer = await answering(pn_id, message)
        if messages.decode(message)[0] == numbers.JOIN_REQUEST:
            world.gateway.administration.retire_pne("lamp", Cause.LOST)
        return answer

    world.server.answer = slow
    assert (await board.join("light"))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    world.server.answer = answering
    await world.gateway.tick()
    assert not world.server.group("light").members[PN]


@pytest.mark.req("SEC-06")
async def test_an_older_list_of_members_is_refused_and_a_join_in_between_survives_a_list(world):
    await world.board("a", "light")
    await world.board("b", "light")
    fields = {messages.SG_ID: "light", messages.PN_ID: PN, messages.REVISION: 1, messages.MEMBER: ["a", "z"]}
    answer = await world.server.tell(PN, numbers.INVENTORY_UPDATE_REQUEST, fields)
    assert answer[messages.ERROR] == numbers.ERROR_STALE
    assert not world.store.inventory.is_member("light", "z")
    # The Server expelled "a" (revision 3), then let "c" join (revision 4); the list arrives last.
    group = world.server.group("light")
    group.revision[PN] = 3
    await world.board("c", "light")
    assert world.store.inventory.is_behind("light")
    fields |= {messages.REVISION: 3, messages.MEMBER: ["b"]}
    await world.server.tell(PN, numbers.INVENTORY_UPDATE_REQUEST, fields)
    members = [member.pne_id for member in world.store.inventory.members("light")]
    assert members == ["b", "c"]


async def test_a_leave_the_server_never_heard_of_fails_and_can_be_repeated(world):
    board = await world.board("lamp", "light")
    world.server.up = False
    assert (await board.leave("light"))[messages.ERROR] == numbers.ERROR_NO_SESSION
    world.server.up = True
    assert (await board.leave("light"))[messages.RESULT] == "1"
    with pytest.raises(NoAnswer):
        world.server.up = False
        await world.server.answer(PN, b"")


@pytest.mark.req("SEC-06", "SEC-29")
def test_kill_between_any_two_steps_leaves_the_old_state_or_the_new(tmp_path):
    """A child expels, re-keys and retires until it is killed; whatever is found afterwards belongs together."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from tests.unit.gateway_world import PN, World

        async def main():
            world = await World(Path(sys.argv[1])).start()
            for i in range(6):
                await world.board(f"b{i}", "light")
            print("ready", flush=True)
            n = 0
            while True:
                n += 1
                await world.server.expel("light", f"b{n % 6}")
                await world.server.rekey("light")
                await asyncio.sleep(0.002)
                world.server.group("light").members[PN].add(f"b{n % 6}")
                world.server.group("light").revision[PN] += 1
                await world.server.inventory("light")

        asyncio.run(main())
        """
    )
    for round_ in range(6):
        folder = tmp_path / str(round_)
        child = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, cwd=os.getcwd())
        assert child.stdout.readline() == b"ready\n"
        try:
            child.wait(0.02 + 0.037 * round_)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        store = GatewayStore(folder)  # the lease died with the child
        members = {slot_of(store, member.pne_id) for member in store.inventory.members("light")}
        assert covered(store, "light") == members
        group, key = store.inventory.group("light"), store.group_keys.newest("light")
        if group.version:
            assert key.version == group.version
            delivery = store.deliveries.get("light", group.version)
            assert delivery is not None
            states = store.deliveries.states("light", group.version)
            for pne_id, state in states.items():
                if not store.inventory.is_member("light", pne_id):
                    assert state == "excluded"
        assert store.database.number("SELECT count(*) FROM group_key") <= 2
        store.close()
