"""The table of shards in PostgreSQL. The clock of leases is the database's: leases count from the beginning of the
transaction that renews them, and none that is seen by a statement can count from a later time than it began."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from key_servers.cpns_server.postgres.connection import PatientConnection, failed
from key_servers.cpns_server.shards.leases import LEASE_MS, HeldShards
from message_plane import holder
from message_plane.lease import Lease

CHANNEL = "keycast_shards"
"""Notified when shards were claimed or have become free, and when the number of processes has changed."""

_FORGOTTEN_MS = 60_000
_NOW = "(extract(epoch FROM now()) * 1000)::BIGINT"
# Later than now() by what this transaction took so far: it sees what transactions that began meanwhile have renewed.
_LATEST = f"(extract(epoch FROM statement_timestamp()) * 1000)::BIGINT + {LEASE_MS}"
_LIVING = f"SELECT count(*) FROM server_process WHERE expires > {_NOW} AND expires <= {_LATEST}"
_LIVE = (
    f"INSERT INTO server_process VALUES (%s, {_NOW} + {LEASE_MS}) ON CONFLICT (holder) DO UPDATE"
    " SET expires = excluded.expires RETURNING (xmax = 0)"
)
_FORGET = (
    "DELETE FROM server_process WHERE holder IN (SELECT holder FROM server_process"
    f" WHERE abs(expires - {_NOW}) > {_FORGOTTEN_MS} FOR UPDATE SKIP LOCKED)"
)
_RENEW = f"UPDATE shard SET expires = {_NOW} + {LEASE_MS} WHERE holder = %s"
# A row that another process claims now, or in which a transaction of its holder checks the token, is passed over.
_CLAIM = (
    f"UPDATE shard SET holder = %s, token = token + 1, expires = {_NOW} + {LEASE_MS} WHERE shard IN"
    f" (SELECT shard FROM shard WHERE holder IS NULL OR expires <= {_NOW}"
    " ORDER BY random() LIMIT %s FOR UPDATE SKIP LOCKED)"
)
# Leases that end later than any can: the database's clock was set back since they were renewed.
_TOO_LATE = f"SELECT shard, expires FROM shard WHERE expires > {_LATEST}"
_END_LEASE = "UPDATE shard SET expires = 0 WHERE shard = %s AND expires = %s"
_HELD = "SELECT shard, token FROM shard WHERE holder = %s"
_FREE = "UPDATE shard SET holder = NULL, token = token + 1, expires = 0"  # nothing is written under the old token
_RELEASE = f"{_FREE} WHERE holder = %s AND shard = %s AND token = %s"
_RELEASE_ALL = f"{_FREE} WHERE holder = ANY(%s)"
_END = "DELETE FROM server_process WHERE holder = ANY(%s)"


class PostgresShards:
    """The rows of the shards, as one process sees them (`holding.ShardTable`). It connects when it is first used."""

    def __init__(self, connect: Callable[[], PatientConnection], name: str) -> None:
        """`name`: the name of this process, which no other has or has had (`process_name`)."""
        self._connect = connect
        self._name = name
        self._connection: PatientConnection | None = None
        self._looked_for_gone = False
        self._too_late: dict[tuple[int, int], int] = {}  # (shard, end of its lease) -> when that was seen first

    def round(self, wanted: Callable[[int], int]) -> HeldShards:
        """As `ShardTable.round`."""
        with self._transaction() as connection:
            if not self._looked_for_gone:
                self._free_those_that_are_gone(connection)
            ((is_new,),) = connection.execute(_LIVE, (self._name,)).fetchall()
            connection.execute(_FORGET)
            ((living,),) = connection.execute(_LIVING).fetchall()
            connection.execute(_RENEW, (self._name,))
            self._end_those_too_late(connection)
            claimed = 0
            if more := wanted(living):
                claimed = connection.execute(_CLAIM, (self._name, more)).rowcount
            tokens = dict(connection.execute(_HELD, (self._name,)).fetchall())
            if is_new or claimed:  # one that had them may still run, if the database's clock was set forward
                _notify(connection)
        self._looked_for_gone = True
        return HeldShards(tokens, living)

    def release(self, leases: Sequence[Lease]) -> None:
        """As `ShardTable.release`."""
        if not leases:
            return
        with self._transaction() as connection:
            for lease in leases:
                connection.execute(_RELEASE, (self._name, lease.shard, lease.token))
            _notify(connection)

    def end(self) -> None:
        """As `ShardTable.end`."""
        with self._transaction() as connection:
            _end(connection, [self._name])

    def close(self) -> None:
        """As `ShardTable.close`."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[PatientConnection]:
        """Enter a transaction. A failure closes the connection, and the next one is made on a new connection."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            yield self._connection
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            self.close()
            raise failed(error) from None
        except BaseException:
            self.close()
            raise

    def _end_those_too_late(self, connection: psycopg.Connection[Any]) -> None:
        """End leases that a clock which was set back would keep for long, if nobody renews them for as long as any."""
        now_ms = holder.boot_milliseconds()
        found = connection.execute(_TOO_LATE).fetchall()
        self._too_late = {each: self._too_late.get(each, now_ms) for each in found}
        for each, seen_ms in self._too_late.items():
            if now_ms - seen_ms > LEASE_MS:
                connection.execute(_END_LEASE, each)

    def _free_those_that_are_gone(self, connection: psycopg.Connection[Any]) -> None:
        """Free the shards of processes that ran on this machine and have ended, without a wait for their leases."""
        found = connection.execute("SELECT DISTINCT holder FROM shard WHERE holder IS NOT NULL").fetchall()
        gone = [name for (name,) in found if _has_ended(name)]
        if gone:
            _end(connection, gone)


def process_name(start: str) -> str:
    """Return the name of a process, in which `start` tells several starts in one process apart."""
    return f"{holder.this_process()}/{start}"


def _has_ended(name: str) -> bool:
    process = name.rpartition("/")[0]
    return holder.same_boot(process) and holder.certainly_gone(process)


def _end(connection: psycopg.Connection[Any], names: Sequence[str]) -> None:
    connection.execute(_RELEASE_ALL, (names,))
    connection.execute(_END, (names,))
    _notify(connection)


def _notify(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
