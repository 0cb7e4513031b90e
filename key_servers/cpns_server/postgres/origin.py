"""Whether a database is the one it was: SEC-03 and SEC-23 do not survive one that went back.

A standby that was promoted may lack what its primary had acknowledged, and a copy that was put back lacks all that came
later. The first has another timeline, a copy of the cluster's files that was recovered has another timeline too, and a
dump that was loaded has other OIDs or is in another cluster. What was there last is in the table `history`, and so a
part of each copy.
"""

from typing import Any, NamedTuple

import psycopg

from key_servers.cpns_server.postgres.connection import PatientConnection, connect
from key_servers.errors import StoreFailed


class Origin(NamedTuple):
    """The system identifier of a cluster, its timeline, and the OID of our table `server` in it."""

    system: str
    timeline: int
    relation: int


_PRESENT = (  # pg_control_checkpoint() would still show the old timeline after a promotion
    "SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,"
    " coalesce(to_regclass('server')::oid::bigint, 0) FROM pg_control_system()"
)
ALIVE = "UPDATE history SET alive_at = extract(epoch FROM now())::bigint"
"""Notes that the database is in use, so that a copy tells how old it is."""


def present(connection: psycopg.Connection[Any]) -> Origin:
    """Return what the database is now. Raises psycopg.Error."""
    return Origin(*connection.execute(_PRESENT).fetchall()[0])


def stored(connection: psycopg.Connection[Any]) -> Origin | None:
    """Return what the database was when it was used last, None if it never was. Raises psycopg.Error."""
    found = connection.execute("SELECT system, timeline, relation FROM history").fetchall()
    return Origin(*found[0]) if found else None


def store(connection: psycopg.Connection[Any], origin: Origin) -> None:
    """Note what the database is from now on, inside the caller's transaction. Raises psycopg.Error."""
    connection.execute(
        "INSERT INTO history (only_row, system, timeline, relation) VALUES (1, %s, %s, %s) ON CONFLICT (only_row)"
        " DO UPDATE SET system = excluded.system, timeline = excluded.timeline, relation = excluded.relation",
        origin,
    )
    connection.execute(ALIVE)


def unused_s(connection: psycopg.Connection[Any]) -> int:
    """Return the seconds since the database was used last, 0 if that is not known. Raises psycopg.Error."""
    ((seconds,),) = connection.execute(
        "SELECT CASE WHEN alive_at > 0 THEN extract(epoch FROM now())::bigint - alive_at ELSE 0 END FROM history"
    ).fetchall()
    return max(0, int(seconds))


class PostgresSource:
    """Makes the connections of one process, all with the same database: `origin` is what the Server goes by."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.origin: Origin | None = None

    def connect(self) -> PatientConnection:
        """Connect. Raises StoreUnusable, and StoreFailed while the Server has not yet dealt with another origin."""
        connection = connect(self.url)
        try:
            here = present(connection)
            if self.origin in (None, here) and stored(connection) == here:
                return connection
        except psycopg.Error as error:
            connection.close()
            raise StoreFailed(f"The PostgreSQL database cannot be used ({type(error).__name__}).") from None
        connection.close()
        raise StoreFailed("The PostgreSQL database is not the one it was.", "The Server deals with that first.")
