"""The content of the PostgreSQL database as the octets of a SQLite file, which a backup of either kind holds."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from private_store.migrations import scripts, statements

_PACKAGE = "key_servers.cpns_server.migrations"


def image_of(rows: Callable[..., list[Any]], removing: Sequence[str]) -> bytes:
    """Return the octets of a SQLite file with the tables that `rows` reads, after the statements `removing`.

    Those run on a copy in memory, so what they remove is written nowhere.
    """
    known = scripts(_PACKAGE)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        for script in known:
            for statement in statements(script):
                copy.execute(statement)
        copy.execute(f"PRAGMA user_version = {len(known)}")
        for table, columns in tables(lambda sql: copy.execute(sql).fetchall()).items():
            copy.execute(f"DELETE FROM {table}")
            copy.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in columns.split(','))})",
                rows(f"SELECT {columns} FROM {table}"),
            )
        for statement in removing:
            copy.execute(statement)
        copy.execute("VACUUM")
        return copy.serialize()


def tables(rows: Callable[[str], list[Any]]) -> dict[str, str]:
    """Return each table of the SQLite database that `rows` reads with its columns, joined by commas.

    References allow to fill them in this order.
    """
    names = [name for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")]
    return {name: ", ".join(row[1] for row in rows(f"PRAGMA table_info({name})")) for name in names}
