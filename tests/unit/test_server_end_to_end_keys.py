"""Keys of end-to-end groups: wrapped for each board, carried until the board proves that it has them (SEC-25)."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from cpns import entity_user_key, uplink_form
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAllowed
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning
from key_servers.cpns_server.places import Places
from key_servers.cpns_server.store import ServerStore
from tests.unit.cpns_server_parts import PnGw
from tests.unit.end_to_end_house import CONFIG, SG, Board, EndToEndHouse, home, house, lamp

__all__ = ["home", "house", "lamp"]  # fixtures

ID = entity_user_key.key_id


async def unanswered(house: EndToEndHouse, gateway: PnGw, times: int) -> None:
    """So many requests are carried and get no answer."""
    for _ in range(times):
        while not gateway.carried:
            await house.pass_time(1)
        gateway.carried.clear()
        await house.pass_time(tuning.CARRIED_ANSWER_S)


# The request


@pytest.mark.req("CPNS-GKM-85", "CPNS-GKM-86", "CPNS-GKM-87", "CPNS-GKM-88", "CPNS-GKM-90")
@pytest.mark.parametrize("form", [uplink_form.CBOR, uplink_form.XML])
async def test_each_board_gets_the_key_wrapped_for_it_and_nobody_else_reads_it(tmp_path: Path, form: str) -> None:
    house = await EndToEndHouse.with_group(tmp_path)
    home = house.gateway("home")
    house.server.register_gateway(home.gateway_id, home.pn_id, form=form)
    lamp, door = await house.member(home, "lamp"), await house.member(home, "door")
    await house.work()
    assert {octets[:1] == b"<" for octets in home.raw} == {form == uplink_form.XML}
    requests = {request[m.GROUP_KEY_INFO][0]: request for request in home.carried}
    assert set(requests) == {"lamp", "door"}
    key = house.server._store.newest_key(SG)
    assert key is not None
    for board, other in ((lamp, door), (door, lamp)):
        request = requests[board.name]
        wrapped = entity_user_key.encrypt(board.euks[0], board.name, SG, key.version, key.key)
        assert request == {
            m.SGID: SG,
            m.GROUP_KEY_INFO: (board.name, wrapped),
            m.VERSION: key.version,
            m.EUK_ID: ID(board.euks[0]),
        }
        assert other.answer(request, home.pn_id)[m.RETURN] == n.RETURN_UNKNOWN_EUK
    assert key.key not in b"".join(home.raw) and key.key.hex().encode() not in b"".join(home.raw)
    await house.server.close()


@pytest.mark.req("CPNS-GKM-91", "CPNS-GKM-92")
@pytest.mark.parametrize("form", [uplink_form.CBOR, uplink_form.XML])
async def test_a_return_of_1_with_its_proof_ends_the_procedure(
    house: EndToEndHouse, home: PnGw, lamp: Board, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request = await house.request_at(home)
    assert (house.delivery("lamp").state, house.delivery("lamp").tries) == ("sending", 1)
    house.clock.advance(7)
    assert await house.send(home, lamp.answer(request, home.pn_id), form) is None
    shown = house.delivery("lamp")
    assert (shown.state, shown.accepted_version, shown.way) == ("settled", house.version, "end-to-end")
    assert (shown.tries, shown.confirmed_at, shown.returned) == (1, house.clock.moment.unix, "1")
    assert "lamp has opened version 0.1 of alarm in 1 try" in caplog.text
    await house.pass_time(3600)
    assert home.carried == []
    await house.server._store.lots.written()
    assert house.server.show_group(SG).members[0].confirmed == house.version


async def test_it_is_finished_after_a_restart_too(tmp_path: Path) -> None:
    house = await EndToEndHouse.with_group(tmp_path)
    home = house.gateway("home")
    await house.member(home, "lamp")
    await house.answer_all(home)
    await house.server.close()
    house = await EndToEndHouse.open(tmp_path, CONFIG, house.clock)
    house.attach(home)
    await house.pass_time(3600)
    assert home.carried == []
    (shown,) = house.server.show_group(SG).pne_deliveries
    assert (shown.accepted_version, shown.tries, shown.returned) == (1, 1, "1") and shown.confirmed_at
    await house.server.close()


# Updates


@pytest.mark.req("SEC-06", "SEC-26")
async def test_after_leave_expel_and_update_the_others_get_the_newest_key_and_the_leaver_none(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    door, cat = await house.member(home, "door"), await house.member(home, "cat")
    await house.answer_all(home)
    await house.leave(home, "cat", SG)
    await house.answer_all(home)
    house.server.expel(SG, "door")
    await house.answer_all(home)
    house.server.update_key(SG)
    await house.answer_all(home)
    assert (sorted(cat.held), sorted(door.held), sorted(lamp.held)) == ([1], [1, 2], [1, 2, 3, 4])
    assert [each.pne_id for each in house.server.show_group(SG).pne_deliveries] == ["lamp"]
    assert len(set(lamp.held.values())) == 4


async def test_a_periodic_key_reaches_them_by_itself(tmp_path: Path) -> None:
    house = await EndToEndHouse.with_group(tmp_path, config=CONFIG.model_copy(update={"period_s": 3600}))
    home = house.gateway("home")
    lamp = await house.member(home, "lamp")
    await house.answer_all(home)
    await house.pass_time(3601)
    await house.answer_all(home)
    assert sorted(lamp.held) == [1, 2]
    await house.server.close()


@pytest.mark.req("SEC-27")
async def test_only_the_newest_key_is_sent_and_it_does_not_wait_for_an_answer_to_an_older_one(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    old = await house.request_at(home)
    house.server.update_key(SG)
    house.server.update_key(SG)
    assert (await house.request_at(home))[m.VERSION] == 3
    refused = await house.send(home, lamp.answer(old, home.pn_id))
    assert refused is not None and refused[m.ERROR] == n.ERROR_STALE
    assert (house.delivery("lamp").accepted_version, house.delivery("lamp").failures) == (0, 0)


@pytest.mark.req("SEC-06")
async def test_nothing_is_sent_that_is_about_to_be_replaced(tmp_path: Path) -> None:
    house = await EndToEndHouse.with_group(tmp_path, config=CONFIG.model_copy(update={"batching_s": 5.0}))
    home = house.gateway("home")
    lamp, _ = await house.member(home, "lamp"), await house.member(home, "door")
    await house.leave(home, "door", SG)
    await house.work()
    assert home.carried == []
    await house.pass_time(5)
    await house.answer_all(home)
    assert sorted(lamp.held) == [2]
    await house.server.close()


@pytest.mark.req("SEC-06")
async def test_who_leaves_while_its_request_waits_for_its_turn_is_sent_nothing(tmp_path: Path) -> None:
    house = await EndToEndHouse.with_group(tmp_path, config=CONFIG.model_copy(update={"batching_s": 5.0}))
    home, may_answer = house.gateway("home"), asyncio.Event()

    async def slowly(message: bytes) -> bytes:
        await may_answer.wait()
        return await home.receive(message)

    house.receivers[home.gateway_id] = slowly
    await house.member(home, "door")
    await house.member(home, "lamp")
    house.server.work()
    await asyncio.sleep(0)
    await house.leave(home, "door", SG)
    may_answer.set()
    await house.server.idle()
    assert [request[m.GROUP_KEY_INFO][0] for request in home.carried] in ([], ["lamp"])
    await house.server.close()


async def test_who_leaves_and_comes_back_has_proved_nothing_yet(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    await house.answer_all(home)
    await house.leave(home, "lamp", SG)
    await house.join(home, "lamp", SG)
    assert house.delivery("lamp").accepted_version == 0
    await house.answer_all(home)
    assert house.delivery("lamp").accepted_version == house.version == 2


# Boards that do not answer


@pytest.mark.req("Q-17")
async def test_a_board_without_answer_is_tried_again_and_the_third_time_is_an_alarm_until_it_has_the_key(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await unanswered(house, home, 2)
    assert house.server.alarms() == ()
    await unanswered(house, home, 1)
    (alarm,) = house.server.alarms()
    assert (alarm.kind, alarm.pne_id, alarm.sg_id) == ("unopened", "lamp", SG)
    assert "lamp" in alarm.text and SG in alarm.text
    assert (house.delivery("lamp").state, house.delivery("lamp").failures) == ("failing", 3)
    assert house.counted("keys_unanswered") == 3
    await house.pass_time(20)
    await house.answer_all(home)
    assert house.server.alarms() == () and house.delivery("lamp").tries == 4


async def test_an_answer_that_comes_late_counts(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    request = await house.request_at(home)
    await house.pass_time(tuning.CARRIED_ANSWER_S)
    assert house.delivery("lamp").failures == 1
    home.carried.clear()
    assert await house.send(home, lamp.answer(request, home.pn_id)) is None
    assert house.delivery("lamp").state == "settled"
    await house.pass_time(3600)
    assert home.carried == []


async def test_a_repeated_answer_changes_nothing(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    request = await house.request_at(home)
    for _ in range(3):
        assert await house.send(home, lamp.answer(request, home.pn_id)) is None
    assert house.delivery("lamp").tries == 1


@pytest.mark.req("SEC-25")
async def test_a_proof_that_a_pn_gw_repeats_hides_no_board_that_lost_its_key(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    """The PN GW withholds the key from a board that asks for it, and brings the board's old answer each time."""
    proof = lamp.answer(await house.request_at(home), home.pn_id)
    assert await house.send(home, proof) is None
    for times in range(1, 6):
        house.server._pne_courier.wanted_by("lamp", SG)
        await house.request_at(home)
        assert await house.send(home, proof) is None
        assert house.alarms_of(kinds.UNOPENED) == [("lamp", SG, "")] * (times >= 3)
    house.server.update_key(SG)
    await house.answer_all(home)
    assert house.alarms_of(kinds.UNOPENED) == []


async def test_who_leaves_the_group_leaves_the_alarms(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    await unanswered(house, home, 3)
    assert house.alarms_of("unopened") == [("lamp", SG, "")]
    house.server.expel(SG, "lamp")
    await house.work()
    assert house.server.alarms() == ()


async def test_a_pn_gw_that_is_silent_fails_for_all_its_boards_and_is_served_when_it_speaks(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    boards = [lamp, *[await house.member(home, f"board{i}") for i in range(20)]]
    home.down = True
    await house.pass_time(30)
    assert min(house.delivery(board.name).failures for board in boards) >= 3
    assert house.counted("deliveries_unanswered") <= 10, "each board has its turn to fail"
    (alarm,) = [alarm for alarm in house.server.alarms() if alarm.kind == "unopened"]
    assert alarm.count == 21 and "21 boards" in alarm.text
    home.down = False
    await house.list_versions(home, (0, SG))
    await house.answer_all(home)
    assert {sorted(board.held)[-1] for board in boards} == {1}
    assert [alarm for alarm in house.server.alarms() if alarm.kind == "unopened"] == []


async def test_a_pn_gw_that_refuses_is_tried_again_later(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    home.refuses = True
    await house.work()
    assert house.delivery("lamp").failures == 1 and house.counted("deliveries_refused") > 0
    home.refuses = False
    await house.pass_time(tuning.RETRY_MIN_S)
    await house.answer_all(home)
    assert sorted(lamp.held) == [1]


@pytest.mark.req("SEC-25")
async def test_a_board_that_asks_gets_it_at_once_even_what_it_had_or_refused(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await house.answer_all(home)
    house.server._pne_courier.wanted_by("lamp", SG)
    assert house.delivery("lamp").accepted_version == 0
    request = await house.request_at(home)
    house.server._pne_courier.wanted_by("lamp", SG)  # its request is on its way
    await house.work()
    assert home.carried == []
    house.clock.advance(tuning.QUIET_S)
    house.server._pne_courier.wanted_by("lamp", SG)  # the PN GW may have lost it
    assert await house.request_at(home) == request
    refusal = lamp.answer(request, home.pn_id) | {m.RETURN: n.RETURN_FAIL}
    del refusal[m.MAC]
    assert await house.send(home, refusal) is None
    house.server._pne_courier.wanted_by("lamp", SG)
    await house.answer_all(home)
    assert house.delivery("lamp").state == "settled"


# Boards without an Entity User Key


async def test_a_board_without_entity_user_key_waits_for_one_and_is_an_alarm_after_a_while(
    house: EndToEndHouse, home: PnGw
) -> None:
    lamp = await house.member(home, "lamp", known=False)
    await house.pass_time(tuning.ENTITY_KEY_WAIT_S - 1)
    assert home.carried == [] and house.delivery("lamp").state == "keyless"
    assert house.server.alarms() == ()
    await house.pass_time(2)
    assert house.alarms_of("no-entity-key") == [("lamp", SG, "")]
    house.know(lamp)
    await house.answer_all(home)
    assert house.server.alarms() == () and house.delivery("lamp").state == "settled"


# Gateways


async def test_one_group_spans_pns_and_a_board_that_moves_gets_its_key_there(tmp_path: Path) -> None:
    house = await EndToEndHouse.with_group(tmp_path, "home", "office")
    home, office = house.gateway("home"), house.gateway("office")
    lamp, desk = await house.member(home, "lamp"), await house.member(office, "desk")
    await house.answer_all(home)
    await house.answer_all(office)
    assert lamp.held == desk.held and sorted(lamp.held) == [1]
    house.server.move_pne("lamp", office.pn_id)
    await house.join(office, "lamp", SG)
    await house.answer_all(home)
    await house.answer_all(office)
    assert lamp.held[house.version] == desk.held[house.version]
    assert house.delivery("lamp").pn_id == office.pn_id and home.carried == []
    await house.server.close()


@pytest.mark.req("SEC-18")
async def test_a_new_pn_gw_carries_what_the_stolen_one_was_given_and_the_stolen_one_is_not_heard(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    request = await house.request_at(home)
    await house.server.replace_gateway(home.gateway_id, "gw.new")
    new = PnGw("gw.new", home.pn_id)
    house.attach(new)
    with pytest.raises(NotAllowed):
        await house.send(home, lamp.answer(request, home.pn_id))
    lamp.held.clear()
    await house.pass_time(tuning.CARRIED_ANSWER_S + tuning.RETRY_MIN_S + 1)
    await house.answer_all(new)
    assert sorted(lamp.held) == [1] and house.delivery("lamp").state == "settled"
    assert home.carried == []


async def test_behind_a_blocked_pn_gw_nothing_is_sent(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    await house.server.block_gateway(home.gateway_id)
    await house.pass_time(3600)
    assert home.carried == [] and house.delivery("lamp").state == "blocked"
    new = PnGw("gw.new", home.pn_id)
    house.server.register_gateway(new.gateway_id, new.pn_id)
    house.attach(new)
    await house.answer_all(new)
    assert house.delivery("lamp").state == "settled"


# Restores, restarts, lots


@pytest.mark.req("SEC-03")
async def test_a_restored_group_delivers_nothing_until_a_person_confirms_its_members(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await house.answer_all(home)
    await house.server.restore()
    house.server._entity_user_keys.learnt("lamp", lamp.euks[0])  # its session is made anew
    await house.pass_time(60)
    assert home.carried == [] and house.delivery("lamp").accepted_version == 0
    response = {m.RETURN: n.RETURN_SUCCESS, m.PNID: home.pn_id, m.PNE_ID: "lamp", m.SGID: SG, m.VERSION: 1}
    refused = await house.send(home, response | {m.EUK_ID: bytes(8), m.MAC: bytes(8)})
    assert refused is not None and refused[m.ERROR] == n.ERROR_NOT_ALLOWED
    version = house.server.confirm_members(SG)
    await house.answer_all(home)
    assert sorted(lamp.held) == [1, version] and house.delivery("lamp").accepted_version == version


async def test_many_boards_are_asked_one_after_the_other_and_stored_in_a_few_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await EndToEndHouse.with_group(tmp_path)
    home, count = house.gateway("home"), 200
    with house.server._store.transaction():
        for i in range(count):
            await house.member(home, f"board{i}")
    await house.answer_all(home)
    read = 0
    rows = ServerStore._rows

    def watched(store: ServerStore, *values: Any) -> list[Any]:
        nonlocal read
        found = rows(store, *values)
        read += len(found)
        return found

    taken: list[int] = []
    admit = Places.admit

    def admitting(places: Places, *args: Any) -> Any:
        found = admit(places, *args)
        taken.append(places.taken)
        return found

    monkeypatch.setattr(ServerStore, "_rows", watched)
    monkeypatch.setattr(Places, "admit", admitting)
    await house.server._store.lots.written()
    commits = house.server._store.commits
    house.server.update_key(SG)
    await house.answer_all(home)
    await house.server._store.lots.written()
    assert all(sorted(board.held) == [1, 2] for board in house.boards.values())
    assert max(taken) == 1, "more than one request to a PN GW under way"
    assert read <= 30 * count, "work that grows with the square of the boards"
    assert house.server._store.commits - commits <= 1 + count // 20
    await house.server.close()
