"""Opens PostgreSQL if there is a URL, otherwise the SQLite file."""

import sys
from pathlib import Path

from key_servers.errors import StoreUnusable
from key_servers.sql.database import Database
from key_servers.sql.sqlite import SqliteDatabase


async def open_database(url: str | None, path: Path) -> Database:
    """Open PostgreSQL at `url` (postgresql://...), or without a URL the SQLite file `path`. Raise StoreUnusable.

    Only PostgreSQL needs psycopg.
    """
    if url is None:
        return SqliteDatabase(path)
    if not url.startswith(("postgresql://", "postgres://")):
        raise StoreUnusable("The URL of the store is not postgresql://...", "Correct it, or leave it out for SQLite.")
    try:
        from key_servers.sql.postgres import PostgresDatabase
    except ImportError:
        raise StoreUnusable(
            "PostgreSQL needs psycopg.", f"Run: {sys.executable} -m pip install 'keycast[postgres]'"
        ) from None
    return await PostgresDatabase.open(url)
