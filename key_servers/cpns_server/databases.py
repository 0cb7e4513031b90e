"""Opens the database of a CPNS Server: PostgreSQL if there is a URL, otherwise the SQLite file."""

import sys
from pathlib import Path

from key_servers.cpns_server.database import ServerDatabase
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.errors import StoreUnusable


def open_database(state_dir: Path, url: str | None = None) -> ServerDatabase:
    """Open PostgreSQL at `url` (postgresql://...), or without a URL the file in `state_dir`.

    Raises StoreUnusable, StoreInUse. Only PostgreSQL needs psycopg.
    """
    if url is None:
        return SqliteServerDatabase(state_dir)
    try:
        from key_servers.cpns_server.postgres.database import PostgresServerDatabase
    except ImportError:
        raise StoreUnusable(
            "PostgreSQL needs psycopg.", f"Run: {sys.executable} -m pip install 'keycast[postgres]'"
        ) from None
    return PostgresServerDatabase(url)
