"""The contract of a database below a store, and the migration of its schema."""

import importlib.resources
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from key_servers.errors import StoreUnusable

Value = str | int | None

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


class Transaction(Protocol):
    """One transaction: all of its statements take effect, or none; an error in one undoes the others."""

    async def rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows. Raise StoreFailed."""


class Database(Protocol):
    """One open database."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction. Leaving the block commits it, an exception undoes it; it cannot be nested.

        Raise StoreFailed.
        """

    async def lock_schema(self, sql: Transaction) -> None:
        """Keep other processes from migrating until the transaction ends."""

    async def erase_log(self) -> None:
        """Erase older pages, which may hold a secret that was just deleted. Call it outside of a transaction."""

    async def close(self) -> None:
        """Close the database."""


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
