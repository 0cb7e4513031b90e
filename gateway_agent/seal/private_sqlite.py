"""One SQLite file of mode 0600 for one process: what is deleted is overwritten, and does not stay in the log.

Synchronous, as the store of the gateway is. `secure_delete` overwrites rows; the write-ahead log, which holds older
pages, is cut to nothing after each change.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway_agent.errors import GatewayError
from gateway_agent.store.errors import StoreDamaged

_SCHEMA_VERSION = 1
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON")


class StoreFailed(GatewayError):
    """The file cannot be written or read now, as when the disk is full. Nothing of a transaction has happened."""


class PrivateSqlite:
    """The open file."""

    def __init__(self, path: Path, tables: str, holds: str, remedy: str) -> None:
        """Open `path`, or create it with `tables` (SQL). Raises StoreDamaged when others can read it or it is not ours.

        `holds` says what is in it, `remedy` what to do when it is damaged.
        """
        _create_private(path, holds)
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                for pragma in _PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}")
                ((version,),) = self._connection.execute("PRAGMA user_version").fetchall()
                if version == 0:
                    self._connection.executescript(f"BEGIN IMMEDIATE;{tables}PRAGMA user_version = 1;COMMIT;")
                elif version != _SCHEMA_VERSION:
                    raise sqlite3.DatabaseError("written by a newer program")
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"The {holds} in {path} cannot be read: {error}.", remedy) from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; on the medium when it ends, and what it erased is overwritten. Raises StoreFailed."""
        self.rows("BEGIN IMMEDIATE")
        before = self._connection.total_changes
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk may have rolled it back already
                self.rows("ROLLBACK")
            raise
        if self._connection.total_changes != before:
            self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def rows(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        """Run one statement and give its rows. Raises StoreFailed."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise StoreFailed(
                f"{self._path} cannot be used: {error}.", "Check the space on its disk, and owner and mode."
            ) from None


def _create_private(path: Path, holds: str) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        status = path.lstat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise StoreDamaged(
                f"{path} holds {holds} and others can read it.", f"Run: chown $USER {path}; chmod 600 {path}"
            ) from None
