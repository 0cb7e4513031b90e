"""The database file below the store.

One process uses it, every commit is on the medium, deleted data is not readable.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

Write = tuple[str, tuple[Value, ...]]
"""One writing statement and its values."""


class ServerDatabase:
    """One open database. It belongs to the event loop's thread, except `write_lot`. All methods raise StoreFailed."""

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
        self._after_commit: list[Callable[[], None]] = []
        self.erase_after_commit = self._file.erase_after_commit
        self.image = self._file.image

    def close(self) -> None:
        """Close the file, so that other processes can use it."""
        if self._lots is not None:
            self._lots.close()
        self._file.close()
        self._lock.release()

    @property
    def commits(self) -> int:
        """The number of synced write transactions so far."""
        return self._file.commits + self._lots_written

    @property
    def trouble(self) -> str:
        """The fault of the medium as text, "" if there is none (`SqliteFile`)."""
        return self._file.trouble

    def probe(self) -> None:
        """If there is a fault, try whether it has ended."""
        if self._file.trouble:
            with self._writing:
                self._file.probe()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all writes of the block, or none of them.

        Inside another transaction the block is a part of that. On leaving the outer block its writes are on the medium.
        """
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

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once the transaction is on the medium, at once outside of one; never if it is undone."""
        if self._file.in_transaction:
            self._after_commit.append(action)
        else:
            action()

    def write_lot(self, statements: Callable[[], Sequence[Write]]) -> None:
        """Run what `statements` returns as one transaction on a connection of its own, from any one thread.

        `statements` is called when no other transaction can begin any more. On return all is on the medium.
        """
        with self._writing:
            try:
                self._lots = lots = self._lots or self._file.connect()
                lots.execute("BEGIN IMMEDIATE")
                try:
                    for sql, values in statements():
                        lots.execute(sql, values)
                    lots.execute("COMMIT")
                finally:
                    if lots.in_transaction:
                        lots.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._file.failed(error) from error
            self._lots_written += 1

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """Run one statement and return its rows."""
        return self._file.rows(sql, *values)

    def write(self, sql: str, *values: Value) -> None:
        """Run one writing statement inside a transaction. Raises RuntimeError outside of one."""
        if not self._file.in_transaction:
            raise RuntimeError("a write outside of a transaction")
        self._file.run(sql, values)
