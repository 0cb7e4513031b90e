"""Lots of what PN GWs and PNEs report, written on a connection of the thread that commits them."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg

from key_servers.cpns_server.database import Fence, Write
from key_servers.cpns_server.postgres.connection import PatientConnection, failed, is_trouble
from key_servers.cpns_server.postgres.origin import PostgresSource
from key_servers.cpns_server.postgres.schema import common
from key_servers.errors import StoreContended

T = TypeVar("T")

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"  # no rule depends on what it has read
_TOKENS = "SELECT shard, token FROM shard WHERE shard = ANY(%s) ORDER BY shard"
_LOCK = " FOR KEY SHARE"  # of claims, which are FOR UPDATE, but not of renewals
_TRIES = 10
_PAUSE_S, _PAUSE_MAX_S = 0.001, 0.05


class PostgresLots:
    """Writes one lot after another, all from one thread at a time."""

    def __init__(self, source: PostgresSource, fence: Fence | None) -> None:
        self._source = source
        self._fence = fence
        self._connection: PatientConnection | None = None
        self.commits = 0

    def write(self, statements: Callable[[], Sequence[Write]]) -> None:
        """Write what `statements` returns. Raises StoreContended if a row of it has changed meanwhile, StoreFailed."""
        try:
            self._connection = connection = self._connection or self._source.connect()
            connection.execute(_BEGIN)
            # From the first statement on, a row that another transaction changes ends this one: so what `statements`
            # reads may be dropped by a transaction of the event loop at any time, and does not come back.
            connection.execute("SELECT 1")
            writes = statements()
            lost: set[int] = set()
            if self._fence is not None:
                lost = lost_shards(
                    connection, self._fence, {each.shard for each in writes if each.shard is not None}, lock=True
                )
            for each in writes:
                if each.shard not in lost:
                    connection.execute(common(each.sql), each.values)
            connection.execute("COMMIT")
        except psycopg.Error as error:
            self._end(is_broken=is_trouble(error))
            raise failed(error) from None
        except BaseException:
            self._end(is_broken=False)
            raise
        self.commits += 1
        if self._fence is not None:
            for shard in lost:
                self._fence.lost(shard)

    def close(self) -> None:
        """Close the connection."""
        self._end(is_broken=True)

    def _end(self, *, is_broken: bool) -> None:
        """End a transaction that failed, and the connection if that is broken."""
        if self._connection is None:
            return
        try:
            if not is_broken:
                self._connection.execute("ROLLBACK")
        except psycopg.Error:
            is_broken = True
        if is_broken:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def lost_shards(connection: PatientConnection, fence: Fence, shards: set[int], *, lock: bool) -> set[int]:
    """Return those of `shards` whose token is not ours any more. With `lock` none can be taken until the commit."""
    if not shards:
        return set()
    found = connection.execute(_TOKENS + (_LOCK if lock else ""), (sorted(shards),)).fetchall()
    held, present = fence.tokens(), dict(found)
    return {shard for shard in shards if shard not in held or present.get(shard) != held[shard]}


def again(once: Callable[[], T]) -> T:
    """Return what `once` returns, which is called up to 10 times while other processes are in its way.

    Raises StoreContended of the last time.
    """
    for tries in range(_TRIES - 1):
        try:
            return once()
        except StoreContended:
            time.sleep(random.uniform(0, min(_PAUSE_MAX_S, _PAUSE_S * 2**tries)))
    return once()
