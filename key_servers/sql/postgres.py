"""PostgreSQL behind `Database`, through a small pool of asyncpg. The only module that imports asyncpg."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from key_servers.errors import StoreFailed, StoreUnusable
from key_servers.sql.database import Transaction, Value

CONNECTIONS_MAX = 4
CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 30.0
_SCHEMA_LOCK = 0x6B657963  # any numbers, the same for all key servers of one database
_WRITER_LOCK = 0x6B657964

_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class PostgresDatabase:
    """A pool of connections, of which each transaction uses one."""

    def __init__(self, pool: Any) -> None:
        """Keep the pool; only `open` calls this."""
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> "PostgresDatabase":
        """Connect to `url`. Raise StoreUnusable, whose text does not show the password that the URL may hold."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
            )
        except (*_FAILURES, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise StoreUnusable(
                f"The PostgreSQL store cannot be opened ({reason}).", "Check its URL, its password and that it runs."
            ) from None
        return cls(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin a transaction, as `Database.transaction` says."""
        try:
            connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except _FAILURES as error:
            raise _failed(error) from None
        try:
            running = connection.transaction()
            await _guarded(running.start())
            try:
                # One transaction at a time, of all processes, as in SQLite: rules read, decide, and then write.
                await _guarded(connection.execute("SELECT pg_advisory_xact_lock($1)", _WRITER_LOCK))
                yield _Transaction(connection)
            except BaseException:
                if not connection.is_closed():
                    await _guarded(running.rollback())
                raise
            await _guarded(running.commit())
        finally:
            await self._pool.release(connection)

    async def lock_schema(self, sql: Transaction) -> None:
        """Keep other processes from migrating until the transaction ends."""
        await sql.rows("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)

    async def erase_log(self) -> None:
        """Do nothing: PostgreSQL's log belongs to its server."""

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()


class _Transaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows. Raise StoreFailed."""
        return [tuple(row) for row in await _guarded(self._connection.fetch(sql, *values))]


async def _guarded(awaitable: Any) -> Any:
    try:
        return await awaitable
    except _FAILURES as error:
        raise _failed(error) from error


def _failed(error: BaseException) -> StoreFailed:
    # The server's text may quote values of a row; the class of its error does not.
    return StoreFailed(f"The PostgreSQL store failed ({type(error).__name__}).", "Check the database server.")
