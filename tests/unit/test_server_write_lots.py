"""What PN GWs report is gathered in lots, and whoever waits for a lot is told its end."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.cpns_server.values import MemberReport
from key_servers.cpns_server.write_lots import WriteLots
from key_servers.errors import StoreFailed
from tests.waiting import PATIENCE_S

KEY = ("pn.home", "light")
POSITION = Position(1, 1, False)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteServerDatabase]:
    database = SqliteServerDatabase(tmp_path)
    yield database
    database.close()


@pytest.mark.parametrize("dropped", [False, True])
async def test_the_end_of_a_lot_is_told_that_began_while_one_took_all_that_is_in_it(
    database: SqliteServerDatabase, monkeypatch: pytest.MonkeyPatch, dropped: bool
) -> None:
    lots, loop = WriteLots(database), asyncio.get_running_loop()
    write_lot = SqliteServerDatabase.write_lot

    def add_another() -> None:
        lots.add_position(("pn.other", "light"), POSITION)
        if dropped:
            lots.drop_position(("pn.other", "light"))
        added.set()

    def write_slowly(database: SqliteServerDatabase, statements: object) -> None:
        loop.call_soon_threadsafe(add_another)
        assert added.wait(60)
        monkeypatch.setattr(SqliteServerDatabase, "write_lot", write_lot)
        write_lot(database, statements)  # type: ignore[arg-type]

    added = threading.Event()
    monkeypatch.setattr(SqliteServerDatabase, "write_lot", write_slowly)
    lots.add_position(KEY, POSITION)
    await lots.written()
    async with asyncio.timeout(2 * tuning.LOT_S + 1):
        await lots.written()
    await lots.close()


async def test_who_waits_for_a_lot_that_is_never_written_is_told_so(
    database: SqliteServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    lots, loop = WriteLots(database), asyncio.get_running_loop()
    waiting: list[asyncio.Task[None]] = []

    def report_and_wait() -> None:
        lots.add_report("light", 1, MemberReport("lamp", "confirmed"), confirms=True)
        waiting.append(loop.create_task(lots.written()))
        closing.append(loop.create_task(lots.close()))
        added.set()

    def refuse(database: SqliteServerDatabase, statements: object) -> None:
        loop.call_soon_threadsafe(report_and_wait)
        assert added.wait(60)
        raise StoreFailed("The store failed: disk full.", "Check the free space and the medium.")

    added = threading.Event()
    closing: list[asyncio.Task[None]] = []
    monkeypatch.setattr(SqliteServerDatabase, "write_lot", refuse)
    lots.add_position(KEY, POSITION)
    with pytest.raises(StoreFailed, match="disk full"):
        await lots.written()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreFailed, match="was not written"):
            await waiting[0]
    await closing[0]
