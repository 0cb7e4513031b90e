"""The gateway's SQLite file, with a cache of the rows that were just read.

It is used synchronously from the one thread that runs the core, on purpose. Nothing else can run between the check of a
membership and the write that depends on it, so no handler needs a lock. A delivery to 1,000 PNEs makes fewer than 20
commits of a few milliseconds, because confirmations are batched. Reads do not wait for the disk, and between two
transactions each row is read only once, as all confirmations of a delivery read the same group, key and generation.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway_agent.store.errors import FAULTS, RESTORE_BACKUP
from gateway_agent.store.written_rows import WrittenRows
from private_store.migrations import scripts
from private_store.sqlite_file import SqliteFile, Value

_KNOWN_MAX = 1024  # rows in the cache


class GatewayDatabase:
    """The open file. The caller must hold the lock of its folder. All methods raise StoreFailed if the medium fails."""

    def __init__(self, path: Path) -> None:
        """Open or create `path` and migrate it to the newest schema. Raises StoreDamaged."""
        self._file = SqliteFile(
            path,
            scripts("gateway_agent.store.migrations"),
            holds="inventory",
            remedy=RESTORE_BACKUP,
            faults=FAULTS,
        )
        self._file.connection.row_factory = sqlite3.Row
        try:
            self.written = WrittenRows(self._file)
        except BaseException:
            self._file.close()
            raise
        self._depth = 0
        self._undoing: list[Callable[[], None]] = []
        self._known: dict[tuple[object, ...], sqlite3.Row | None] = {}
        self.forget_log_after_commit = self._file.erase_after_commit
        self.close = self._file.close
        self.image = self._file.image
        self.probe = self._file.probe

    @property
    def commits(self) -> int:
        """The number of synced write transactions so far."""
        return self._file.commits

    @property
    def trouble(self) -> str:
        """What is wrong with the medium, "" if nothing is, as in `SqliteFile`."""
        return self._file.trouble

    @property
    def erasures(self) -> int:
        """How often the log was cut after a key was deleted (SEC-29)."""
        return self._file.erasures

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Enter a context whose writes are all on the disk at its end, or none (`SqliteFile`). Contexts nest."""
        self._depth += 1
        before = self.written.number
        try:
            with self._file.transaction():
                yield
        except BaseException:
            if self._depth == 1:
                self.written.undone(before)
                for go_back in self._undoing:
                    asyncio.get_running_loop().call_soon(go_back)
            raise
        finally:
            self._depth -= 1
            self._known.clear()
            if not self._depth:
                self._undoing.clear()

    def if_undone(self, go_back: Callable[[], None]) -> None:
        """Call `go_back` in the event loop if nothing of the transaction that runs now is stored."""
        self._undoing.append(go_back)

    def execute(self, sql: str, *values: Value) -> sqlite3.Cursor:
        """Run one statement that may write. Raises RuntimeError outside of `transaction`."""
        if not self._depth:
            raise RuntimeError("a write outside of a transaction")
        self._known.clear()
        return self._file.run(sql, values)

    def many(self, sql: str, rows: Iterable[tuple[Value, ...]]) -> None:
        """Run one statement for each row, inside a transaction."""
        self._file.run_for_each(sql, rows)

    def rows(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._file.rows(sql, *values)

    def row(self, sql: str, *values: Value) -> sqlite3.Row | None:
        """Return the first row of a query, or None. Outside of a transaction it may come from the cache."""
        if not self._depth and (sql, values) in self._known:
            return self._known[sql, values]
        row: sqlite3.Row | None = self._file.run(sql, values).fetchone()
        if not self._depth:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[sql, values] = row
        return row

    def number(self, sql: str, *values: Value) -> int:
        """Return the single integer that is the result of a query."""
        return int(self._file.run(sql, values).fetchone()[0])


def among(column: str, keys: Collection[str] | None) -> str:
    """Return the condition that a column has one of so many values, and a true one for None."""
    return "1" if keys is None else f"{column} IN ({', '.join('?' * len(keys))})"
