"""SQLite behind `Database`: one file of mode 0600, written by short transactions of the server and its commands.

Called synchronously from the event loop: a statement takes well under a millisecond, a commit some on an SD card.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from key_servers.errors import StoreFailed, StoreUnusable
from key_servers.sql.database import Transaction, Value

BUSY_TIMEOUT_S = 5.0  # another process (a command beside the running server) commits in much less


class SqliteDatabase:
    """One connection; transactions of one process wait for each other here, those of others in SQLite."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreUnusable when others can read it, or it is damaged."""
        self._path = path
        self._lock = asyncio.Lock()
        _create_private(path)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
                    self._connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreUnusable(f"{path} is damaged ({error}).", "Put a backup in its place.") from None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """As `Database.transaction`."""
        async with self._lock:
            await self.rows("BEGIN IMMEDIATE")
            try:
                yield self
                await self.rows("COMMIT")
            finally:
                if self._connection.in_transaction:
                    await self.rows("ROLLBACK")

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """As `Transaction.rows`."""
        try:
            return self._connection.execute(sql, {str(at): value for at, value in enumerate(values, 1)}).fetchall()
        except sqlite3.Error as error:
            # SQLite's own words name tables and codes, never values.
            raise StoreFailed(
                f"The store {self._path} failed: {error}.", "Check the free space and the medium."
            ) from error

    async def lock_schema(self, sql: Transaction) -> None:
        """Nothing to do: BEGIN IMMEDIATE keeps every other writer out."""

    async def erase_log(self) -> None:
        """As `Database.erase_log`: the write-ahead log is cut to nothing, unless another process reads it now."""
        async with self._lock:
            await self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """As `Database.close`."""
        self._connection.close()


def _create_private(path: Path) -> None:
    # Made here and not by SQLite: the mode is right from the first instant, and -wal and -shm inherit it.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        status = path.lstat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise StoreUnusable(
                f"{path} can be read by others.", f"Run: chown $USER {path}; chmod 600 {path}"
            ) from None
    except OSError as error:
        raise StoreUnusable(f"Cannot create {path}: {error.strerror}.", "Check the folder.") from None
