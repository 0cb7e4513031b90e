"""Every SQLite file of ours: commits reach the disk before they count, what is deleted is overwritten."""

import pytest

from gateway_agent.store.store import Store
from key_servers.cpns_server.database import Database
from key_servers.sql.sqlite import SqliteDatabase
from message_plane.session_store import SessionStore

OFF, FULL = 0, 2  # of SQLite's own numbers


def gateway(folder):
    store = Store(folder / "gw")
    return store, store.database._file.connection


def sessions(folder):
    store = SessionStore(folder / "sessions.db")
    return store, store._database


def cpns_server(folder):
    database = Database(folder / "server")
    return database, database._file.connection


def seal_server(folder):
    database = SqliteDatabase(folder / "gms.db")
    return database, database._file.connection


@pytest.mark.req("SEC-23", "SEC-29")
@pytest.mark.parametrize("opened", [gateway, sessions, cpns_server, seal_server])
async def test_commits_are_synced_and_deleted_octets_overwritten(tmp_path, opened):
    store, connection = opened(tmp_path)
    ((synchronous,), (journal,), (secure_delete,)) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "journal_mode", "secure_delete")
    )
    assert synchronous >= FULL and journal == "wal"
    assert secure_delete != OFF
    closing = store.close()
    if closing is not None:
        await closing
