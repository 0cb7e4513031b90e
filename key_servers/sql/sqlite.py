"""SQLite behind `Database`: one private file, written by short transactions of the server and its commands.

Called synchronously from the event loop: a statement takes well under a millisecond, a commit some on an SD card.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from key_servers.errors import FAULTS
from key_servers.sql.database import Transaction, Value
from private_store.sqlite_file import SqliteFile

BUSY_TIMEOUT_S = 5.0  # another process (a command beside the running server) commits in much less


class SqliteDatabase:
    """One connection. Transactions of this process wait for each other here, those of other processes in SQLite."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreUnusable when others can read it, or it is damaged."""
        self._lock = asyncio.Lock()
        self._file = SqliteFile(
            path,
            [],  # `migrate` brings the schema up to date, as in PostgreSQL
            holds="store of the server",
            remedy="Put back your copy of it; without one, set up the server in another state folder.",
            faults=FAULTS,
            busy_timeout_s=BUSY_TIMEOUT_S,
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin a transaction, as `Database.transaction` says."""
        async with self._lock:
            with self._file.transaction():
                yield self

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows. Raise StoreFailed."""
        return self._file.run(sql, {str(at): value for at, value in enumerate(values, 1)}).fetchall()

    async def lock_schema(self, sql: Transaction) -> None:
        """Do nothing: BEGIN IMMEDIATE keeps every other writer out already."""

    async def erase_log(self) -> None:
        """Cut the write-ahead log to nothing; if a reader prevents it, it is tried again later."""
        async with self._lock:
            self._file.erase_now()

    def image(self) -> bytes:
        """Return the octets of a file like this one, as it is at one moment, for a backup. Raises StoreFailed."""
        return self._file.image()

    async def close(self) -> None:
        """Close the connection."""
        self._file.close()
