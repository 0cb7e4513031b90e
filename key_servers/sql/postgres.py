"""PostgreSQL behind `Database`, through a few connections of psycopg's asynchronous side.

Transactions are SERIALIZABLE: where two processes are in each other's way one of them fails with StoreContended, and
`again` runs it once more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from key_servers.errors import StoreContended, StoreFailed, StoreUnusable
from key_servers.sql.database import Transaction, Value
from key_servers.sql.transport import with_tls

CONNECTIONS_MAX = 4
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 30.0
_SCHEMA_LOCK = 0x6B657963  # any number, the same for all key servers of one database
_BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE"

_FAILURES = (psycopg.Error, OSError, TimeoutError)
_CONTENDED = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresDatabase:
    """A few connections, of which each transaction uses one."""

    def __init__(self, url: str) -> None:
        """Keep the URL; only `open` calls this."""
        self._url = url
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)

    @classmethod
    async def open(cls, url: str) -> "PostgresDatabase":
        """Connect to `url`. Raise StoreUnusable, whose text does not show the password that the URL may hold."""
        database = cls(url)
        try:
            database._idle.append(await database._connect())
        except _FAILURES as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise StoreUnusable(
                f"The PostgreSQL store cannot be opened ({reason}).", "Check its URL, its password and that it runs."
            ) from None
        return database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin a transaction, as `Database.transaction` says."""
        async with self._room:
            connection = await self._begun()
            try:
                yield _Transaction(connection)
                await _run(connection, "COMMIT")
            except BaseException:
                await self._give_up(connection)
                raise
            self._idle.append(connection)

    async def lock_schema(self, sql: Transaction) -> None:
        """Keep other processes from migrating until the transaction ends."""
        await sql.rows("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")  # to see what the one before has done
        await sql.rows("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)

    async def erase_log(self) -> None:
        """Do nothing: PostgreSQL's log belongs to its server."""

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().close()

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            **with_tls(conninfo_to_dict(self._url, connect_timeout=CONNECT_TIMEOUT_S)),
            autocommit=True,
            cursor_factory=psycopg.AsyncRawCursor,
        )

    async def _begun(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            try:
                await _run(connection, _BEGIN)
                return connection
            except StoreFailed:  # the server was restarted since
                await self._give_up(connection)
        try:
            connection = await self._connect()
        except _FAILURES as error:
            raise _failed(error) from None
        await _run(connection, _BEGIN)
        return connection

    async def _give_up(self, connection: Connection) -> None:
        """Undo a transaction. The connection is kept if it still works."""
        with suppress(*_FAILURES):
            await connection.rollback()
        if connection.broken or connection.closed:
            await connection.close()
        else:
            self._idle.append(connection)


class _Transaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows. Raise StoreFailed."""
        return await _run(self._connection, sql, *values)


async def _run(connection: Connection, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
    try:
        async with asyncio.timeout(STATEMENT_TIMEOUT_S):
            cursor = await connection.execute(sql, values)
            return [] if cursor.description is None else await cursor.fetchall()
    except _FAILURES as error:
        raise _failed(error) from error


def _failed(error: BaseException) -> StoreFailed:
    if isinstance(error, _CONTENDED):
        return StoreContended("Another process changed the same rows.", "It is tried again.")
    # The server's text may quote values of a row; the class of its error does not.
    return StoreFailed(f"The PostgreSQL store failed ({type(error).__name__}).", "Check the database server.")
