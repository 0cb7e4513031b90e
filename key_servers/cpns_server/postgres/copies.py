"""Backups of a CPNS Server whose store is in PostgreSQL: the same files as of one that has a state folder."""

from contextlib import closing
from dataclasses import astuple
from pathlib import Path

from key_servers.cpns_server.databases import SESSIONS_FILE
from key_servers.cpns_server.operators import audit_log
from key_servers.cpns_server.postgres.database import ENDS_SESSIONS, PostgresServerDatabase
from key_servers.cpns_server.postgres.image import tables
from key_servers.cpns_server.postgres.sessions import PostgresSessions
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from key_servers.cpns_server.sqlite_database import FILE_NAME, SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import NotPossible, StoreInUse
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile

_LIVING = "SELECT count(*) FROM server_process WHERE expires > (extract(epoch FROM now()) * 1000)::BIGINT"


def stopped(url: str) -> tuple[str, dict[str, bytes]]:
    """Return entity ID and files of the Server whose store is at `url`, while none of its processes answers.

    Raises NotPossible if there is none, StoreUnusable, StoreFailed.
    """
    database = PostgresServerDatabase(url)
    with closing(ServerStore(database)) as store:
        found = database.rows("SELECT octets FROM identity")
        if not found:
            raise NotPossible("There is no CPNS Server in the database.")
        octets = bytes(found[0][0])
        with closing(PostgresSessions(database.source.connect)) as sessions:
            images = {IDENTITY_FILE: octets, FILE_NAME: store.image(), SESSIONS_FILE: sessions.image()}
    return OwnIdentity.from_octets(octets, "The key in the database").entity_id, images


def put_back(url: str, folder: Path) -> None:
    """Put the files of a Server in `folder` in place of all that the database holds, sessions included.

    The audit log only grows: what it lacks is added. The files were declared an older copy before. Raises StoreInUse if
    a process of the Server lives, and the errors of `stopped`.
    """
    database = PostgresServerDatabase(url)
    with (
        closing(database),
        closing(SqliteServerDatabase(folder)) as copy,
        closing(SessionFile(folder / SESSIONS_FILE)) as sessions,
    ):
        columns = tables(copy.rows)

        def replace(_: int = 0) -> None:
            if database.rows(_LIVING) != [(0,)]:
                raise StoreInUse("A process of this CPNS Server runs on the database.", "Stop all of them first.")
            for statement in ("DELETE FROM identity", "DELETE FROM credential", "DELETE FROM session_owner"):
                database.write(statement)
            for statement in ENDS_SESSIONS:
                database.write(statement)
            for table in reversed(columns):
                if table not in audit_log.TABLES:
                    database.write(f"DELETE FROM {table}")
            for table, names in columns.items():
                places = ", ".join("?" for _ in names.split(","))
                for row in copy.rows(f"SELECT {names} FROM {table}"):
                    database.write(f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING", *row)
            for credential in sessions.registered():
                database.write("INSERT INTO credential VALUES (?, ?, ?, ?, ?)", *astuple(credential))
            database.write("INSERT INTO identity VALUES (1, ?)", OwnIdentity.load(folder / IDENTITY_FILE).octets())

        if database.is_older:
            database.accept(replace)
        else:
            database.attempt(replace)
