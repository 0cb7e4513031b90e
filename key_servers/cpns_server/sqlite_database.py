"""The store's database as one private SQLite file.

One process uses it, every commit is on the medium, deleted data is not readable.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from key_servers.cpns_server.database import Part, Write
from key_servers.errors import FAULTS
from private_store.folder_lock import FolderLock
from private_store.migrations import scripts
from private_store.sqlite_file import SqliteFile, Value

FILE_NAME = "cpns_server.sqlite3"
RESTORE_BACKUP = (
    "Put back a backup: keycast server restore FILE (keycast gateway restore FILE, if it runs in a gateway). "
    "Without one, set it up in another state folder."
)
_LOCK_NAME = "cpns_server.lock"

T = TypeVar("T")


class SqliteServerDatabase:
    """The open file, as `ServerDatabase` says."""

    kind = "SQLite"

    def __init__(self, state_dir: Path) -> None:
        """Open or create the database in `state_dir` (made with mode 0700) and bring its schema up to date.

        Raises StoreInUse when another process has it, StoreUnusable when it is readable by others, damaged or of a
        newer release.
        """
        self._lock = FolderLock(
            state_dir,
            _LOCK_NAME,
            what="the CPNS Server in",
            remedy="Stop it first, or use another state folder.",
            faults=FAULTS,
        )
        self.path = state_dir / FILE_NAME
        try:
            self._file = SqliteFile(
                self.path,
                scripts("key_servers.cpns_server.migrations"),
                holds="Group Keys",
                remedy=RESTORE_BACKUP,
                faults=FAULTS,
            )
        except BaseException:
            self._lock.release()
            raise
        self._writing = threading.Lock()
        self._lots: sqlite3.Connection | None = None
        self._lots_written = 0
        self._after_commit: list[Callable[[], object]] = []
        self.erase_after_commit = self._file.erase_after_commit
        self.image = self._file.image

    def close(self) -> None:
        """As `ServerDatabase.close`."""
        if self._lots is not None:
            self._lots.close()
        self._file.close()
        self._lock.release()

    @property
    def commits(self) -> int:
        """As `ServerDatabase.commits`."""
        return self._file.commits + self._lots_written

    @property
    def trouble(self) -> str:
        """As `ServerDatabase.trouble` (`SqliteFile.trouble`)."""
        return self._file.trouble

    def probe(self) -> None:
        """As `ServerDatabase.probe`."""
        if self._file.trouble:
            with self._writing:
                self._file.probe()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As `ServerDatabase.transaction`."""
        if self._file.in_transaction:
            with self._file.transaction():
                yield
            return
        try:
            with self._writing, self._file.transaction():
                yield
            committed = list(self._after_commit)
        finally:
            self._after_commit.clear()
        for action in committed:
            action()

    def attempt(self, work: Callable[[], T]) -> T:
        """As `ServerDatabase.attempt`: there is no other process, and this one does nothing else meanwhile."""
        return work()

    def require_shard(self, shard: int) -> None:
        """As `ServerDatabase.require_shard`: there is no other process."""

    @property
    def may_go_back(self) -> bool:
        """As `ServerDatabase.may_go_back`."""
        return False

    @property
    def is_older(self) -> bool:
        """As `ServerDatabase.is_older`: a file does not tell, so a person does."""
        return False

    def accept(self, work: Callable[[int], object]) -> None:
        """As `ServerDatabase.accept`."""
        work(0)

    def snapshot(self) -> AbstractContextManager[None]:
        """As `ServerDatabase.snapshot`: nothing changes in between."""
        return nullcontext()

    def changed(self, part: Part) -> None:
        """As `ServerDatabase.changed`: there is no process to tell."""

    async def listen(self, take: Callable[[Sequence[Part]], None]) -> None:
        """As `ServerDatabase.listen`: there is no process that would tell."""

    def after_commit(self, action: Callable[[], object]) -> None:
        """As `ServerDatabase.after_commit`."""
        if self._file.in_transaction:
            self._after_commit.append(action)
        else:
            action()

    def write_lot(self, statements: Callable[[], Sequence[Write]]) -> None:
        """As `ServerDatabase.write_lot`: `statements` is called when no other transaction can begin any more."""
        with self._writing:
            try:
                self._lots = lots = self._lots or self._file.connect()
                lots.execute("BEGIN IMMEDIATE")
                try:
                    for write in statements():
                        lots.execute(write.sql, write.values)
                    lots.execute("COMMIT")
                finally:
                    if lots.in_transaction:
                        lots.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._file.failed(error) from error
            self._lots_written += 1

    def identity(self, first: Callable[[], bytes]) -> bytes | None:
        """As `ServerDatabase.identity`: it is in a file beside this one."""
        return None

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """As `ServerDatabase.rows`."""
        return self._file.rows(sql, *values)

    def write(self, sql: str, *values: Value) -> None:
        """As `ServerDatabase.write`."""
        if not self._file.in_transaction:
            raise RuntimeError("a write outside of a transaction")
        self._file.run(sql, values)
