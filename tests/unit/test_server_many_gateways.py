"""Many PN GWs: silent ones delay no other, reports are stored in lots, and no step looks at all of them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateway_requests import NotSent
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import StoreFailed
from tests.unit.cpns_server_parts import House, PnGw, error_of, succeeded
from tests.waiting import until

SG = "light"
CONFIG = ServerConfig(batching_s=0, rekey_on_join=False)


class MutePnGw(PnGw):
    """A PN GW that may never answer: its requests are lost on the way. `asked` counts them all."""

    asked = 0

    async def receive(self, message: bytes) -> bytes:
        self.asked += 1
        if self.down:
            await asyncio.Event().wait()
        return await super().receive(message)


async def houses(folder: Path, number: int, *, by_itself: bool = False) -> tuple[House, list[MutePnGw]]:
    """A Server whose group has a member at each of so many PN GWs, all of which have its newest key.

    `by_itself`: on the machine's clock, without a hand that works it.
    """
    house = await House.open(folder, CONFIG, by_itself=by_itself)
    gateways = [MutePnGw(f"gw.{i:04}", f"pn.{i:04}") for i in range(number)]
    with house.server._store.transaction():  # all that follows is one commit
        for gateway in gateways:
            house.server.register_gateway(gateway.gateway_id, gateway.pn_id, is_open=True)
            house.attach(gateway)
        house.server.create_group(SG, open_to=[gateway.pn_id for gateway in gateways])
    for gateway in gateways:
        assert succeeded(await house.join(gateway, f"lamp.{gateway.pn_id}", SG))
    await house.work()
    assert {gateway.newest(SG) for gateway in gateways} == {1}
    return house, gateways


async def turns(number: int = 50) -> None:
    """Let the event loop do what can be done without waiting for anybody."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
async def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[House, list[MutePnGw]]]:
    """60 PN GWs at a Server with 16 places."""
    monkeypatch.setattr(tuning, "PLACES", 16)
    monkeypatch.setattr(tuning, "PLACES_OF_SILENT", 4)
    monkeypatch.setattr(tuning, "DEPARTURES_AT_ONCE", 5)
    house, gateways = await houses(tmp_path, 60)
    yield house, gateways
    await house.server.close()


@pytest.mark.req("Q-17")
async def test_half_of_them_are_silent_and_the_others_have_the_key_as_soon_as_ever(
    many: tuple[House, list[MutePnGw]],
) -> None:
    house, gateways = many
    for gateway in gateways[:30]:
        gateway.down = True
    house.server.update_key(SG)
    for _ in range(4):  # nobody knows yet who is silent: so long it takes to see that
        house.server.work()
        await turns()
        house.clock.advance(tuning.QUIET_S)
    assert [gateway.newest(SG) for gateway in gateways[30:]] == [2] * 30
    version = house.server.update_key(SG)
    house.server.work()
    await turns()
    assert [gateway.newest(SG) for gateway in gateways[30:]] == [version] * 30  # now it is known: no time has passed
    assert house.server.alarms() == ()  # the silent have had little time to answer


@pytest.mark.req("Q-17")
async def test_by_itself_the_server_takes_places_back_from_those_that_do_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "PLACES", 8)
    monkeypatch.setattr(tuning, "PLACES_OF_SILENT", 2)
    monkeypatch.setattr(tuning, "QUIET_S", 0.2)
    monkeypatch.setattr(tuning, "DEPARTURES_AT_ONCE", 3)
    house, gateways = await houses(tmp_path, 20, by_itself=True)
    for gateway in gateways:
        gateway.down = True
    house.server.update_key(SG)
    await until(lambda: house.server.counters().get("deliveries_recalled", 0) > 2)
    for gateway in gateways[10:]:  # these do not even speak
        gateway.down = False
    await until(lambda: {gateway.newest(SG) for gateway in gateways[10:]} == {2})
    await house.server.close()


@pytest.mark.req("Q-17", "SEC-27")
async def test_all_are_silent_and_come_back_one_after_the_other(many: tuple[House, list[MutePnGw]]) -> None:
    house, gateways = many
    for gateway in gateways:
        gateway.down = True
    house.server.update_key(SG)
    for _ in range(6):
        house.server.work()
        await turns()
        house.clock.advance(tuning.QUIET_S)
    for gateway in reversed(gateways):
        gateway.down = False
        await house.list_versions(gateway, (1, SG))
        await turns()
        assert gateway.newest(SG) == 2, "one that speaks is not served at once"
    assert house.server._requests._places.taken == 0


async def test_one_that_speaks_while_its_request_is_under_way_is_asked_again_at_once(
    many: tuple[House, list[MutePnGw]],
) -> None:
    house, gateways = many
    slow = gateways[7]
    slow.down, slow.asked = True, 0
    house.server.update_key(SG)
    house.server.work()
    await turns()
    assert slow.asked == 1
    house.clock.advance(tuning.QUIET_S)
    slow.down = False
    await house.pull(slow, SG, 1)
    await turns()
    assert slow.asked == 2 and slow.newest(SG) == 2


async def test_a_key_that_waited_for_its_place_goes_out_as_the_newest_one(many: tuple[House, list[MutePnGw]]) -> None:
    house, gateways = many
    for gateway in gateways[:16]:
        gateway.down = True
    house.server.update_key(SG)
    house.server.work()
    await turns()  # all places are taken, the others wait
    house.server.update_key(SG)
    await house.leave(gateways[-1], f"lamp.{gateways[-1].pn_id}", SG)
    house.clock.advance(tuning.QUIET_S)
    house.server.work()
    await turns()
    assert [gateway.versions(SG) for gateway in gateways[16:-1]] == [[1, 4]] * 43  # none that is old or a leaver knows
    assert gateways[-1].versions(SG) == [1] and gateways[-1].members[SG] == []


@pytest.mark.req("Q-17")
async def test_what_never_went_out_is_no_alarm_and_is_sent_later(many: tuple[House, list[MutePnGw]]) -> None:
    house, gateways = many

    async def unsent(message: bytes) -> bytes:
        raise NotSent("the lease has lapsed")

    house.receivers[gateways[0].gateway_id] = unsent
    house.server.update_key(SG)
    await house.pass_time(60)
    assert house.server.counters()["deliveries_unsent"] > 3
    assert house.server.alarms() == ()
    house.attach(gateways[0])
    await house.pass_time(2 * tuning.RETRY_MIN_S)
    assert gateways[0].newest(SG) == 2


async def test_a_store_that_cannot_be_read_is_one_line_and_the_deliveries_come_later(
    many: tuple[House, list[MutePnGw]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house, gateways = many
    house.server.update_key(SG)
    house.server.work()  # a few have left, the others wait for their turn
    positions = ServerStore.positions

    def failing(store: ServerStore, *which: str) -> None:
        raise StoreFailed("The store failed: disk I/O error.", "Check the medium.")

    monkeypatch.setattr(ServerStore, "positions", failing)
    await turns(200)
    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "Deliveries wait" in line.getMessage() and line.exc_info is None
    monkeypatch.setattr(ServerStore, "positions", positions)
    await house.pass_time(2 * tuning.RETRY_MIN_S)
    assert {gateway.newest(SG) for gateway in gateways} == {2} and house.server.alarms() == ()


@pytest.mark.req("SEC-27")
async def test_what_becomes_due_while_the_store_cannot_be_read_is_sent_afterwards(
    many: tuple[House, list[MutePnGw]], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, gateways = many
    house.server.update_key(SG)
    house.server.work()
    positions = ServerStore.positions

    def failing(store: ServerStore, *which: str) -> None:
        raise StoreFailed("The store failed: disk I/O error.", "Check the medium.")

    monkeypatch.setattr(ServerStore, "positions", failing)
    await turns(200)
    for _ in range(3):
        house.clock.advance(tuning.RETRY_MIN_S)
        with pytest.raises(StoreFailed):
            house.server.work()
    monkeypatch.setattr(ServerStore, "positions", positions)
    await house.pass_time(2 * tuning.RETRY_MIN_S)
    assert {gateway.newest(SG) for gateway in gateways} == {2} and house.server.alarms() == ()


async def test_after_the_end_nothing_goes_out_whoever_speaks(many: tuple[House, list[MutePnGw]]) -> None:
    house, gateways = many
    for gateway in gateways:
        gateway.down = True
    house.server.update_key(SG)
    house.server.work()
    await house.server._requests.close()
    house.clock.advance(tuning.QUIET_S)
    for gateway in gateways:
        gateway.down = False
        house.server._heard(gateway.gateway_id)
    await turns()
    assert house.server._requests._tasks == set() and {gateway.newest(SG) for gateway in gateways} == {1}


async def test_a_word_of_one_pn_gw_costs_no_look_at_the_others(
    many: tuple[House, list[MutePnGw]], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, gateways = many
    looked_at: list[tuple[str, str]] = []
    positions = ServerStore.positions

    def watched(store: ServerStore, *which: str, **named: str) -> Any:
        found = positions(store, *which, **named)
        looked_at.extend(found)
        return found

    monkeypatch.setattr(ServerStore, "positions", watched)
    gateways[3].down = True
    house.server.update_key(SG)
    house.server.work()
    await turns()
    assert len(looked_at) <= 4 * len(gateways)  # to decide, to send, to take the answer
    looked_at.clear()
    for _ in range(5):
        await house.list_versions(gateways[0], (2, SG))
        house.server.work()
    assert set(looked_at) == {("pn.0000", SG)} and len(looked_at) <= 10


# Lots


@pytest.fixture
def slow_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written before it must be."""
    monkeypatch.setattr(tuning, "LOT_S", 3600.0)


async def crash(house: House) -> None:
    """The process is killed: what was not committed is gone."""
    lots = house.server._store.lots
    if lots._task is not None:
        lots._task.cancel()
        await asyncio.gather(lots._task, return_exceptions=True)
    await house.server._requests.close()
    house.server._store.close()


@pytest.mark.usefixtures("slow_lots")
async def test_the_acceptances_of_all_pn_gws_are_one_synced_commit(many: tuple[House, list[MutePnGw]]) -> None:
    house, gateways = many
    before = house.server.commits
    house.server.update_key(SG)
    await house.work()
    assert {gateway.newest(SG) for gateway in gateways} == {2}
    assert {delivery.accepted_version for delivery in house.server.show_group(SG).deliveries} == {2}
    await house.server.close()
    assert house.server.commits - before == 2  # the key, and that all have it


@pytest.mark.req("SEC-27")
@pytest.mark.usefixtures("slow_lots")
async def test_an_acceptance_lost_in_a_crash_is_a_delivery_repeated(tmp_path: Path) -> None:
    house, gateways = await houses(tmp_path, 3)
    await crash(house)
    asked = [gateway.asked for gateway in gateways]
    house = await House.open(tmp_path, CONFIG)
    assert {delivery.accepted_version for delivery in house.server.show_group(SG).deliveries} == {0}
    for gateway in gateways:
        house.attach(gateway)
    await house.work()
    assert [gateway.asked for gateway in gateways] == [2 * number for number in asked]  # the list and the key
    await house.server.close()
    house = await House.open(tmp_path, CONFIG)
    assert {delivery.accepted_version for delivery in house.server.show_group(SG).deliveries} == {1}
    await house.server.close()


@pytest.mark.req("SEC-02")
@pytest.mark.usefixtures("slow_lots")
async def test_an_acceptance_that_is_not_written_yet_does_not_undo_a_loss(tmp_path: Path) -> None:
    house, (home,) = await houses(tmp_path, 1)
    home.down = True
    assert (await house.list_versions(home))[m.RESULT] == n.RESULT_SUCCESS  # it has lost everything
    await house.server.close()  # what waits is written now
    house = await House.open(tmp_path, CONFIG)
    (delivery,) = house.server.show_group(SG).deliveries
    assert (delivery.accepted_revision, delivery.accepted_version) == (0, 0)
    await house.server.close()


async def report(house: House, gateway: PnGw, version: int) -> dict[int, Any]:
    confirmed = [f"lamp.{gateway.pn_id}"]
    return await house.ask(
        gateway, n.DELIVERY_REPORT_REQUEST, {m.SG_ID: SG, m.VERSION: version, m.CONFIRMED: confirmed}
    )


@pytest.mark.req("SEC-28")
async def test_reports_are_answered_when_they_are_stored_and_many_are_one_commit(tmp_path: Path) -> None:
    house, gateways = await houses(tmp_path, 20)
    await house.server._store.lots.written()
    before = house.server.commits
    answers = [asyncio.ensure_future(report(house, gateway, 1)) for gateway in gateways]
    await turns()
    assert not any(answer.done() for answer in answers)
    assert all(succeeded(answer) for answer in await asyncio.gather(*answers))
    assert {member.confirmed for member in house.server.show_group(SG).members} == {1}
    assert house.server.commits - before == 1
    await house.server.close()


async def test_while_the_medium_refuses_positions_count_and_reports_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "key_servers.cpns_server.write_lots")
    house, gateways = await houses(tmp_path, 2)
    await house.server._store.lots.written()
    monkeypatch.setattr(tuning, "LOT_RETRY_S", 0.01)
    write_lot, tries = SqliteServerDatabase.write_lot, 0

    def refused(database: SqliteServerDatabase, statements: object) -> None:
        nonlocal tries
        tries += 1
        raise StoreFailed("The store failed: disk full.", "Check the free space and the medium.")

    monkeypatch.setattr(SqliteServerDatabase, "write_lot", refused)
    house.server.update_key(SG)
    await house.work()
    answer = await report(house, gateways[0], 2)
    assert error_of(answer) == n.ERROR_OTHER and "later" in answer[m.ERROR_TEXT]
    await until(lambda: tries > 3)
    assert caplog.text.count("kept in memory") == 1, "a line for each try"
    assert {delivery.accepted_version for delivery in house.server.show_group(SG).deliveries} == {2}
    asked = [gateway.asked for gateway in gateways]
    monkeypatch.setattr(SqliteServerDatabase, "write_lot", write_lot)
    await until(lambda: "can be written again" in caplog.text)
    assert [gateway.asked for gateway in gateways] == asked  # and nobody was asked twice for it
    assert succeeded(await report(house, gateways[0], 2))
    await house.server.close()
    house = await House.open(tmp_path, CONFIG)
    assert {delivery.accepted_version for delivery in house.server.show_group(SG).deliveries} == {2}
    await house.server.close()
