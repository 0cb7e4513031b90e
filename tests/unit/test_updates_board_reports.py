"""What boards have said about updates: since when, and what of it is in the store."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_agent.store.store import GatewayStore
from gateway_agent.updates.board_reports import SAVE_EVERY_S, BoardReports, LastReport
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

IDLE = UpdateReport((b"c" * 16, b"d" * 16), b"k" * 8, 4, 2, n.IDLE, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GatewayStore]:
    store = GatewayStore(tmp_path / "store")
    with store.transaction():
        store.pn.create("home", "gw", 1)
        for name in ("lamp", "door"):
            store.pn.register(name, 1)
    yield store
    store.close()


def opened(store: GatewayStore) -> BoardReports:
    reports = BoardReports(store)
    reports.open()
    return reports


def stored(store: GatewayStore) -> set[str]:
    return {each.pne_id for each in store.updates.reports()}


def test_a_board_is_in_its_state_since_it_first_said_so(store: GatewayStore) -> None:
    reports = opened(store)
    collecting = replace(IDLE, state=n.COLLECTING, wanted=5, detail=9)
    for at, report, since in (
        (100, IDLE, 100),
        (200, replace(IDLE, agent_number=5), 100),
        (300, collecting, 300),
        (400, replace(collecting, detail=3), 300),
        (500, replace(collecting, wanted=6), 500),
        (600, replace(IDLE, wanted=6), 600),
    ):
        before = reports.of("lamp")
        assert reports.take("lamp", report, at) == (before and before.report)
        assert reports.of("lamp") == LastReport(report, since)


def test_all_that_a_board_has_said_is_there_after_a_restart(store: GatewayStore) -> None:
    reports = opened(store)
    reports.take("lamp", IDLE, 100)
    reports.take("lamp", replace(IDLE, state=n.REFUSED, wanted=5, detail=n.NO_ROOM), 200)
    reports.save()
    assert opened(store).of("lamp") == reports.of("lamp") and opened(store).of("door") is None


def test_what_says_the_same_again_costs_no_commit(store: GatewayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = opened(store)
    reports.take("lamp", IDLE, 100)
    reports.save()
    monkeypatch.setattr(store, "transaction", lambda: pytest.fail("nothing is new"))
    reports.take("lamp", IDLE, 200)
    reports.forget("door")  # of which nothing is known
    reports.save()


async def test_reports_are_stored_from_the_start_to_the_close(store: GatewayStore) -> None:
    reports = opened(store)
    await reports.close()  # of a gateway whose start has failed
    reports.start()
    reports.take("lamp", IDLE, 100)
    await asyncio.sleep(SAVE_EVERY_S + 1)
    assert stored(store) == {"lamp"}
    reports.take("door", IDLE, 100)
    await reports.close()
    assert stored(store) == {"lamp", "door"}
    reports.forget("door")
    await asyncio.sleep(2 * SAVE_EVERY_S)
    assert stored(store) == {"lamp", "door"}


def test_a_board_that_is_gone_is_gone_from_the_store(store: GatewayStore) -> None:
    reports = opened(store)
    for name in ("lamp", "door"):
        reports.take(name, IDLE, 100)
    reports.save()
    reports.forget("lamp")
    reports.save()
    assert reports.of("lamp") is None and stored(store) == {"door"}
    with store.transaction():
        store.pn.set_retired("door")  # in the moment in which the gateway was killed
    after = opened(store)
    assert after.of("door") is None and stored(store) == {"door"}
    after.save()
    assert stored(store) == set()
