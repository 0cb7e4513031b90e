"""The store's database in PostgreSQL, shared by the processes of one CPNS Server.

Transactions are SERIALIZABLE, so a rule that reads, decides and writes has the effect it has in a single process; where
two processes are in each other's way one of them is undone and runs again. One connection belongs to the event loop's
thread, one to the thread that writes lots, one hears of changes. After a failure every call fails at once until a
thread has connected again.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from key_servers.cpns_server.database import Fence, Part, ShardLost, Write
from key_servers.cpns_server.postgres import origin, schema
from key_servers.cpns_server.postgres.connection import PatientConnection, connect, failed, is_trouble
from key_servers.cpns_server.postgres.image import image_of
from key_servers.cpns_server.postgres.lots import PostgresLots, again, lost_shards
from key_servers.cpns_server.postgres.notifications import PostgresNotifications
from key_servers.cpns_server.postgres.origin import PostgresSource
from key_servers.errors import ServerError, StoreFailed
from private_store.sqlite_file import Value

_log = logging.getLogger(__name__)

T = TypeVar("T")

_SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Sender numbers that were used since may be used again, and a fencing token that was given out may come again (SEC-23).
ENDS_SESSIONS = (
    "DELETE FROM oscore_context",
    "UPDATE shard SET holder = NULL, token = token + 1048576, expires = 0",
)
_CHANNEL = "keycast_changed"
_TOLD_MAX = 7900  # octets of one notification
_PROBE_WAIT_S = 0.1  # a database that is back answers within it


class PostgresServerDatabase:
    """One open database, as `ServerDatabase` says."""

    kind = "PostgreSQL"

    def __init__(self, url: str, fence: Fence | None = None) -> None:
        """Connect to `url` (postgresql://...) and bring the schema up to date; `fence` knows which shards are held.

        Raises StoreUnusable: it cannot be reached, or is of a newer release.
        """
        self.source = PostgresSource(url)
        self._fence = fence
        self._trouble = ""
        self._is_older = self._accepting = False
        self._depth = 0
        self._read_only = self._undone = self._wrote = False
        self._commits = 0
        self._after_commit: list[Callable[[], object]] = []
        self._changed: dict[Part, None] = {}
        self._own_name = secrets.token_hex(8)
        self.notifications = PostgresNotifications(url)
        self._lots = PostgresLots(self.source, fence)
        self._prober = ThreadPoolExecutor(1, thread_name_prefix="cpns-server-probe")
        self._probing: Future[PatientConnection] | None = None
        self._resumed: Callable[[], None] = _nothing
        self._connection = _opened(url)
        self._adopt(self._connection)

    def close(self) -> None:
        """As `ServerDatabase.close`."""
        self._prober.shutdown(wait=True)
        if self._probing is not None and self._probing.exception() is None:
            _close(self._probing.result())
        self._lots.close()
        _close(self._connection)

    @property
    def commits(self) -> int:
        """As `ServerDatabase.commits`."""
        return self._commits + self._lots.commits

    @property
    def trouble(self) -> str:
        """As `ServerDatabase.trouble`."""
        return self._trouble

    def probe(self) -> None:
        """As `ServerDatabase.probe`: a thread connects, so this waits a moment at most."""
        if not self._trouble:
            return
        self._probing = self._probing or self._prober.submit(_opened, self.source.url)
        try:
            connection = self._probing.result(timeout=_PROBE_WAIT_S)
        except TimeoutError:
            return
        except ServerError as error:
            self._trouble, self._probing = str(error), None
            return
        self._probing = None
        self._adopt(connection)
        self._resumed()

    @property
    def may_go_back(self) -> bool:
        """As `ServerDatabase.may_go_back`."""
        return True

    @property
    def is_older(self) -> bool:
        """As `ServerDatabase.is_older`."""
        return self._is_older

    def accept(self, work: Callable[[int], object]) -> None:
        """As `ServerDatabase.accept`."""

        def accepted() -> None:
            try:
                if origin.stored(self._connection) == self.source.origin:
                    return  # another process has
                unused_s = origin.unused_s(self._connection)
                assert self.source.origin is not None
                origin.store(self._connection, self.source.origin)
                for statement in ENDS_SESSIONS:
                    self._connection.execute(statement)
            except psycopg.Error as error:
                raise self._failed(error) from None
            work(unused_s)

        self._accepting = True
        try:
            self.attempt(accepted)
            self._is_older = False
        finally:
            self._accepting = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As `ServerDatabase.transaction`."""
        if self._depth:
            if self._read_only:
                raise RuntimeError("a transaction inside of a snapshot")
            yield
            return
        with self._begun(_SERIALIZABLE):
            yield
            committed = list(self._after_commit)
        for action in committed:
            action()

    def attempt(self, work: Callable[[], T]) -> T:
        """As `ServerDatabase.attempt`. Raises StoreContended if other processes were in the way each time."""
        if self._depth:
            return work()

        def once() -> T:
            with self.transaction():
                return work()

        return again(once)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """As `ServerDatabase.snapshot`."""
        if self._depth:
            yield
            return
        self._read_only = True
        try:
            with self._begun(_SNAPSHOT):
                yield
        finally:
            self._read_only = False

    def after_commit(self, action: Callable[[], object]) -> None:
        """As `ServerDatabase.after_commit`."""
        if self._depth:
            self._after_commit.append(action)
        else:
            action()

    def changed(self, part: Part) -> None:
        """As `ServerDatabase.changed`."""
        if self._depth:
            self._changed[part] = None

    async def listen(self, take: Callable[[Sequence[Part]], None]) -> None:
        """As `ServerDatabase.listen`; it listens for all who have subscribed to `notifications` too."""

        def told(text: str) -> None:
            name, parts = json.loads(text) if text else ("", [])
            if name != self._own_name:
                take([(sg_id, pn_id) for sg_id, pn_id in parts])

        self.notifications.subscribe(_CHANNEL, told)
        self._resumed = lambda: take([])
        await self.notifications.run()

    def write_lot(self, statements: Callable[[], Sequence[Write]]) -> None:
        """As `ServerDatabase.write_lot`."""
        again(lambda: self._lots.write(statements))

    def require_shard(self, shard: int) -> None:
        """Raise ShardLost, inside a transaction, if this process does not hold the shard any more."""
        # No lock, which would make every question of a PN GW a write: two processes that change the same rows under
        # different tokens are in each other's way, and the loser reads the token again.
        if self._fence is not None and shard in lost_shards(self._connection, self._fence, {shard}, lock=False):
            self._fence.lost(shard)
            raise ShardLost("Another process has taken over this PN GW.")

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """As `ServerDatabase.rows`."""
        return self._run(schema.common(sql), [_sought(value) for value in values]).fetchall()

    def write(self, sql: str, *values: Value) -> None:
        """As `ServerDatabase.write`."""
        if not self._depth or self._read_only:
            raise RuntimeError("a write outside of a transaction")
        self._wrote = True
        self._run(schema.common(sql), values)

    def identity(self, first: Callable[[], bytes]) -> bytes | None:
        """As `ServerDatabase.identity`."""

        def kept() -> bytes:
            if not (found := self.rows("SELECT octets FROM identity")):
                self.write("INSERT INTO identity VALUES (1, ?)", first())
                found = self.rows("SELECT octets FROM identity")
            return bytes(found[0][0])

        self._accepting = True  # of an older copy too, as the key never changes
        try:
            return self.attempt(kept)
        finally:
            self._accepting = False

    def erase_after_commit(self) -> None:
        """Do nothing: what PostgreSQL keeps of deleted rows is its server's (docs/operators.md)."""

    def image(self, *statements: str) -> bytes:
        """As `ServerDatabase.image`."""
        with self.snapshot():
            return image_of(self.rows, statements)

    # Private

    @contextmanager
    def _begun(self, begin: str) -> Iterator[None]:
        self._undone = self._wrote = False
        self._run(begin)
        self._depth = 1
        try:
            yield
            if self._undone:  # an error in it was swallowed, and COMMIT would end it without a word
                raise StoreFailed("A transaction was undone.", "It is tried again.")
            if self._changed:
                self._tell()
            self._run("COMMIT")
            self._commits += self._wrote
        except BaseException:
            if not self._trouble:
                with suppress(psycopg.Error):  # the caller is told of the first error, not of this one
                    self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
            self._after_commit.clear()
            self._changed.clear()

    def _tell(self) -> None:
        text = json.dumps([self._own_name, list(self._changed)])
        if len(text) > _TOLD_MAX:
            text = json.dumps([self._own_name, []])
        self._run("SELECT pg_notify(%s, %s)", (_CHANNEL, text))

    def _run(self, sql: str, values: Sequence[Value] = ()) -> psycopg.Cursor[Any]:
        if self._trouble:
            raise StoreFailed(self._trouble)
        if self._is_older and not self._accepting:
            raise StoreFailed("The PostgreSQL database is not the one it was.", "The Server deals with that first.")
        try:
            return self._connection.execute(sql, values or None)
        except psycopg.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: psycopg.Error) -> StoreFailed:
        self._undone = True
        failure = failed(error)
        if is_trouble(error):
            self._trouble = str(failure)
            _close(self._connection)
        return failure

    def _adopt(self, connection: PatientConnection) -> None:
        """Use a new connection from now on."""
        self._connection, self._trouble = connection, ""
        try:
            self.source.origin, was = origin.present(connection), origin.stored(connection)
            if was is None:
                with connection.transaction():
                    origin.store(connection, self.source.origin)
            self._is_older = was is not None and was != self.source.origin
        except psycopg.Error as error:
            raise self._failed(error) from None


def _opened(url: str) -> PatientConnection:
    connection = connect(url)
    try:
        if connection.execute("SHOW fsync").fetchone() == ("off",):
            _log.warning("KC2121 PostgreSQL runs with fsync = off: what it acknowledges may be gone after a power cut")
        schema.bring_up_to_date(connection)
    except psycopg.Error as error:
        _close(connection)
        raise failed(error) from None
    except BaseException:
        _close(connection)
        raise
    return connection


def _sought(value: Value) -> Value:
    """Return a value to look for: PostgreSQL has no NUL in texts, and no name has either of these two (`name_rule`)."""
    return value.replace("\0", "\1") if isinstance(value, str) else value


def _nothing() -> None:
    """Do nothing: nobody follows the changes."""


def _close(connection: PatientConnection) -> None:
    with suppress(psycopg.Error):
        connection.close()
