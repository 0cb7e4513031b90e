"""The file below the store: one process, mode 0600, every commit on the medium, nothing deleted left readable.

SQLite in WAL mode with synchronous FULL: a committed transaction survives a power cut. `secure_delete` overwrites
deleted rows with zeros, and the WAL is cut to nothing after a key was deleted, because it holds older pages (SEC-29).
"""

import fcntl
import importlib.resources
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from key_servers.errors import StoreFailed, StoreInUse, StoreUnusable

_log = logging.getLogger(__name__)

_FILE_NAME = "cpns_server.sqlite3"
_LOCK_NAME = "cpns_server.lock"
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


class Database:
    """One open database. Not thread-safe: it belongs to the event loop's thread."""

    def __init__(self, state_dir: Path) -> None:
        """Open or create the database in `state_dir` (made with mode 0700) and bring its schema up to date.

        Raises StoreInUse when another process has it, StoreUnusable when it is readable by others, damaged or of a
        newer release.
        """
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = state_dir / _FILE_NAME
        self._depth = 0
        self._erase = False
        self._lock = _lock(state_dir / _LOCK_NAME)
        try:
            _create_private(self.path)
            self._connection = _connect(self.path)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the file and let other processes have it. Again: nothing."""
        if self._lock >= 0:
            self._connection.close()
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another one it is a part of that. On leaving, what was written is on the medium.

        Raises StoreFailed when the medium refuses; then nothing was written.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        self._erase = False
        self._run("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._run("ROLLBACK")
            raise
        finally:
            self._depth = 0
        if self._erase:
            self._truncate_wal()

    def erase_after_commit(self) -> None:
        """Say inside a transaction that it deletes a secret: older pages with it are then erased too."""
        self._erase = True

    def rows(self, sql: str, *values: str | int | bytes | None) -> list[tuple[object, ...]]:
        """Run one statement and give its rows. Raises StoreFailed."""
        return self._run(sql, *values).fetchall()

    def write(self, sql: str, *values: str | int | bytes | None) -> None:
        """Run one writing statement inside a transaction. Raises StoreFailed, or RuntimeError outside of one."""
        if not self._depth:
            raise RuntimeError("a write outside of a transaction")
        self._run(sql, *values)

    def _run(self, sql: str, *values: str | int | bytes | None) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            # SQLite's own words name tables and codes, never values.
            raise StoreFailed(
                f"The store {self.path} failed: {error}.", "Check the free space and the medium."
            ) from error

    def _truncate_wal(self) -> None:
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            _log.warning("the write-ahead log of %s could not be erased: somebody reads it", self.path)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreInUse(
            f"Another CPNS Server is running on {path.parent}: stop it first, or use another state_dir."
        ) from None
    return descriptor


def _create_private(path: Path) -> None:
    # Made here and not by SQLite: the mode is right from the first instant, and -wal and -shm inherit it.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        status = path.lstat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise StoreUnusable(
                f"{path} holds Group Keys and others can read it.", f"Run: chown $USER {path}; chmod 600 {path}"
            ) from None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        _migrate(connection, path)
    except sqlite3.OperationalError as error:  # the medium or the folder, not what is in the file
        connection.close()
        raise StoreUnusable(
            f"{path} cannot be used ({error}).", "Check the space on its disk, and owner and mode of its folder"
        ) from None
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnusable(
            f"{path} is damaged ({error}).", "Put a backup in its place and run: keycast server restore"
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    folder = importlib.resources.files("key_servers.cpns_server.migrations")
    scripts = sorted((int(m[1]), f) for f in folder.iterdir() if (m := _MIGRATION.fullmatch(f.name)))
    ((present,),) = connection.execute("PRAGMA user_version").fetchall()
    if present > scripts[-1][0]:
        raise StoreUnusable(f"{path} was written by a newer release.", "Install that release, or a newer one.")
    for number, script in scripts:
        if number > present:
            text = script.read_text(encoding="utf-8")
            connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
