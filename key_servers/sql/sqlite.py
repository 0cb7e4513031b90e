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
    """One connection; transactions of one process wait for each other here, those of others in SQLite."""

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
        """As `Database.transaction`."""
        async with self._lock:
            with self._file.transaction():
                yield self

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """As `Transaction.rows`."""
        return self._file.run(sql, {str(at): value for at, value in enumerate(values, 1)}).fetchall()

    async def lock_schema(self, sql: Transaction) -> None:
        """Nothing to do: BEGIN IMMEDIATE keeps every other writer out."""

    async def erase_log(self) -> None:
        """As `Database.erase_log`: the write-ahead log is cut to nothing; what is in the way now is tried again."""
        async with self._lock:
            self._file.erase_now()

    def image(self) -> bytes:
        """Return the octets of a file like this one, as it is at one moment, for a backup. Raises StoreFailed."""
        return self._file.image()

    async def close(self) -> None:
        """As `Database.close`."""
        self._file.close()
