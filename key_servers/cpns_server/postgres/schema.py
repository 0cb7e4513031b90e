"""The Server's schema in PostgreSQL: the numbered scripts that SQLite has too, translated, and what is not common.

A script uses CREATE TABLE and INDEX, ALTER TABLE ADD COLUMN, INSERT, and the types TEXT, INTEGER and BLOB. Triggers are
in `000N_name.postgres.sql` beside `000N_name.sql`, and run after it.
"""

import re
from functools import lru_cache
from importlib import resources
from typing import Any

import psycopg

from key_servers.cpns_server.postgres.connection import SCHEMA
from key_servers.errors import StoreUnusable
from private_store.migrations import scripts, statements

_PACKAGES = ("key_servers.cpns_server.migrations", "key_servers.cpns_server.postgres.migrations")
_SCHEMA_LOCK = 0x6B657965  # any number: one process at a time changes the schema
_BESIDE = re.compile(r"(\d+)_\w+\.postgres\.sql")
_TYPES = (
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),  # the order of SQLite
    (re.compile(r"\)\s*STRICT\b"), ")"),
)
_TRIGGER = re.compile(r"\s*(--[^\n]*\n\s*)*CREATE TRIGGER")


def bring_up_to_date(connection: psycopg.Connection[Any], packages: tuple[str, ...] = _PACKAGES) -> None:
    """Run the scripts of `packages` that have not run yet, all in one transaction; each package counts its own.

    Raises StoreUnusable for a schema of a newer release, and psycopg.Error.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        if connection.execute("SELECT to_regnamespace(%s) IS NULL", (SCHEMA,)).fetchone() == (True,):
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute("CREATE TABLE IF NOT EXISTS schemas (package TEXT PRIMARY KEY, version BIGINT NOT NULL)")
        for package in packages:
            _run(connection, package)


def _run(connection: psycopg.Connection[Any], package: str) -> None:
    known = scripts(package)
    found = connection.execute("SELECT version FROM schemas WHERE package = %s", (package,)).fetchall()
    ((version,),) = found or [(0,)]
    if version > len(known):
        raise StoreUnusable(
            f"The database was written by a newer keycast (schema {version} of {package}, this one knows "
            f"{len(known)}).",
            "Install that version again.",
        )
    beside = _not_common(package)
    for number in range(version + 1, len(known) + 1):
        for statement in statements(known[number - 1]):
            if not _TRIGGER.match(statement):
                connection.execute(_translated(statement))
        if number in beside:
            connection.execute(beside[number])
    connection.execute(
        "INSERT INTO schemas VALUES (%s, %s) ON CONFLICT (package) DO UPDATE SET version = excluded.version",
        (package, len(known)),
    )


@lru_cache(maxsize=512)
def common(sql: str) -> str:
    """Return a statement of the store as psycopg takes it."""
    # SQLite joins in the order written if CROSS says so; PostgreSQL chooses, and allows no USING after it.
    return sql.replace("CROSS JOIN", "JOIN").replace("?", "%s")


def _translated(statement: str) -> str:
    for pattern, replacement in _TYPES:
        statement = pattern.sub(replacement, statement)
    return statement


def _not_common(package: str) -> dict[int, str]:
    entries = [(m, entry) for entry in resources.files(package).iterdir() if (m := _BESIDE.fullmatch(entry.name))]
    return {int(m[1]): entry.read_text(encoding="utf-8") for m, entry in entries}
