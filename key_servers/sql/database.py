"""The contract of a database below a store, and the migration of its schema."""

import asyncio
import importlib.resources
import random
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from key_servers.errors import StoreContended, StoreUnusable

Value = str | int | None

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


Returned = TypeVar("Returned")
Arguments = ParamSpec("Arguments")

_TRIES = 20
_PAUSE_S, _PAUSE_MAX_S = 0.002, 0.05


def again(
    method: Callable[Arguments, Coroutine[Any, Any, Returned]],
) -> Callable[Arguments, Coroutine[Any, Any, Returned]]:
    """Run a method again, up to 20 times in all, while other processes are in the way of its transaction.

    What the method does outside of the database comes after its last transaction.
    """

    @wraps(method)
    async def run(*words: Arguments.args, **named: Arguments.kwargs) -> Returned:
        for tries in range(_TRIES - 1):
            try:
                return await method(*words, **named)
            except StoreContended:
                await asyncio.sleep(random.uniform(0, min(_PAUSE_MAX_S, _PAUSE_S * 2**tries)))
        return await method(*words, **named)

    return run


class Transaction(Protocol):
    """One transaction: all of its statements take effect, or none; an error in one undoes the others."""

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows. Raise StoreFailed."""


class Database(Protocol):
    """One open database."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction. Leaving the block commits it, an exception undoes it; it cannot be nested.

        Raise StoreContended if another process was in the way (`again`), StoreFailed.
        """

    async def lock_schema(self, sql: Transaction) -> None:
        """Keep other processes from migrating until the transaction ends. It comes first in the transaction."""

    async def erase_log(self) -> None:
        """Erase older pages, which may hold a secret that was just deleted. Call it outside of a transaction."""

    async def close(self) -> None:
        """Close the database."""


@again
async def migrate(database: Database, package: str) -> None:
    """Run the scripts in `package` (0001_name.sql, ...) that have not run yet, all in one transaction.

    Several servers may share one PostgreSQL database: each counts its own scripts. Raise StoreUnusable for a schema of
    a newer release, StoreFailed.
    """
    folder = importlib.resources.files(package)
    scripts = sorted(
        (int(found[1]), entry) for entry in folder.iterdir() if (found := _MIGRATION.fullmatch(entry.name))
    )
    async with database.transaction() as sql:
        await database.lock_schema(sql)
        await sql.rows("CREATE TABLE IF NOT EXISTS schemas (package TEXT PRIMARY KEY, version BIGINT NOT NULL)")
        rows = await sql.rows("SELECT version FROM schemas WHERE package = $1", package)
        present = rows[0][0] if rows else 0
        newest = scripts[-1][0]
        if present > newest:
            raise StoreUnusable("The store was written by a newer release.", "Install that release, or a newer one.")
        for number, script in scripts:
            if number > present:
                for statement in script.read_text(encoding="utf-8").split(";"):
                    if statement.strip():
                        await sql.rows(statement)
        await sql.rows(
            "INSERT INTO schemas VALUES ($1, $2) ON CONFLICT (package) DO UPDATE SET version = excluded.version",
            package,
            newest,
        )
