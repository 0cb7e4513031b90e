"""One private SQLite file. Each commit is on the medium, and a deleted secret can no longer be read from it.

WAL with synchronous FULL lets a committed transaction survive a power cut. `secure_delete` overwrites deleted rows, and
the write-ahead log, which holds older pages, is truncated after a secret was deleted. A new file gets its schema under
an unfinished name: an empty file under the final name was therefore emptied by something else.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from private_store import contents, files, folders
from private_store.errors import FAULTS, Faults
from private_store.migrations import statements

_log = logging.getLogger(__name__)

# Spilled sorts would be files of mode 0600 in /var/tmp that nobody overwrites; a schema put in by hand runs nothing.
_SETTINGS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)
BESIDE = ("-wal", "-shm", "-journal")
# Where the head of a file says how it is written and read, and that this is WAL (sqlite.org/fileformat.html, 1.3.3).
# What is made in memory says that it has no log: the first two processes to open it would both want to change that.
_VERSIONS, _WAL = slice(18, 20), b"\2\2"
_CHECK_SPACE = "Check the space on its disk, and owner and mode of its folder; then start again."

# Errors that say nothing about the medium: other processes, rules of the schema.
_NO_TROUBLE = {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED", "SQLITE_ERROR", "SQLITE_AUTH", "SQLITE_MISUSE"}
_NO_TROUBLE |= {f"SQLITE_CONSTRAINT{kind}" for kind in ("", "_UNIQUE", "_PRIMARYKEY", "_FOREIGNKEY", "_NOTNULL")}
_NO_TROUBLE |= {f"SQLITE_CONSTRAINT_{kind}" for kind in ("CHECK", "TRIGGER", "DATATYPE", "ROWID")}

Value = str | int | float | bytes | None


class SqliteFile:
    """The open file. It belongs to one thread, unless its user lets in one thread at a time.

    `commits` counts synced write transactions, `erasures` how often the log was truncated after a secret was deleted.
    `trouble` tells of the medium (full, read-only, broken) from a failed write until the next good one, else it is "".
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        holds: str,
        remedy: str,
        faults: Faults = FAULTS,
        busy_timeout_s: float = 0.0,
        erase_always: bool = False,
    ) -> None:
        """Open or create `path` in its folder, which is made if need be, and bring it to schema `len(migrations)`.

        `holds` tells a person what is in it, `remedy` what to do when that is damaged or gone. `busy_timeout_s` is how
        long to wait for other processes, 0 where a lock keeps them out. With `erase_always`, everything that a
        transaction deletes is secret, also without a call of `erase_after_commit`. Raises `faults.unusable`; each
        method raises `faults.failed`.
        """
        self.path = path
        self.commits = 0
        self.erasures = 0
        self.trouble = ""
        self._faults = faults
        self._busy_timeout_s = busy_timeout_s
        self._erase_always = erase_always
        self._depth = 0
        self._erase_owed = False
        self._erase_failed = False
        folders.make(path.parent, faults.unusable)
        with contents.keeping(path, remedy, faults.unusable):
            if not os.path.lexists(path):
                self._create(migrations, holds, remedy)
            self._check_private(remedy)
            try:
                self.connection = _connect(path, busy_timeout_s)
            except sqlite3.Error as error:
                raise self._told(error, holds, remedy) from None
            try:
                self._prepare(migrations, holds, remedy)
            except sqlite3.Error as error:
                self.connection.close()
                raise self._told(error, holds, remedy) from None
            except BaseException:
                self.connection.close()
                raise

    def connect(self) -> sqlite3.Connection:
        """Return another connection with the same settings, for reads that wait for no commit. Raises sqlite3.Error."""
        connection = _connect(self.path, self._busy_timeout_s)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the file. What is still to be erased is erased first, if the medium allows."""
        if self._erase_owed:
            self._erase()
        with contextlib.suppress(sqlite3.Error):  # the file is closed either way, and what was committed is in the log
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose writes are all on the medium at its end, or none of them. Blocks nest.

        An inner block belongs to the outermost one. An exception undoes the whole and is raised on; `faults.failed`
        says that the medium refused. If it refused the last sync, a power cut may still leave either state, as with
        any commit. Truncating the log after the commit raises nothing: if it fails, it is done later.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        owed = self._erase_owed
        self.run("BEGIN IMMEDIATE")
        self._depth = 1
        before = self.connection.total_changes
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            self._erase_owed = owed
            with contextlib.suppress(sqlite3.Error):  # the caller is told of the first error, not of this one
                if self.connection.in_transaction:  # a full disk may have rolled it back already
                    self.connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
        changed = self.connection.total_changes != before
        if changed:
            self.commits += 1
            self.trouble = ""
        if self._erase_owed or (changed and self._erase_always):
            self._erase_owed = True
            self._erase()

    @property
    def in_transaction(self) -> bool:
        """True inside a `transaction`."""
        return self._depth > 0

    def erase_after_commit(self) -> None:
        """Say, inside a transaction, that it deletes a secret: older pages that hold it are erased too (SEC-29)."""
        self._erase_owed = True

    def erase_now(self) -> None:
        """Erase what older pages hold, outside a transaction. If the medium refuses, a later call does it."""
        self._erase_owed = True
        self._erase()

    def run(self, sql: str, values: Sequence[Value] | Mapping[str, Value] = ()) -> sqlite3.Cursor:
        """Run one statement with a sequence of values, or a mapping for named ones."""
        try:
            return self.connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def run_for_each(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row."""
        try:
            self.connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """Run one statement and return its rows."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def image(self, *statements: str) -> bytes:
        """Return the octets of a copy of this file after `statements`, which remove what a backup must not hold.

        They run on a copy in memory, so what they remove is written nowhere.
        """
        try:
            with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
                self.connection.backup(copy)
                for statement in statements:
                    copy.execute(statement)
                copy.execute("VACUUM")
                return copy.serialize()
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def probe(self) -> None:
        """If there is `trouble`, find out whether it has ended by writing again what is there already."""
        if not self.trouble or self._depth:
            return
        try:
            ((version,),) = self.connection.execute("PRAGMA user_version").fetchall()
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(f"PRAGMA user_version = {version}")
            self.connection.execute("COMMIT")
        except sqlite3.Error:  # not yet
            with contextlib.suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            return
        self.trouble = ""
        if self._erase_owed:
            self._erase()

    def failed(self, error: sqlite3.Error) -> Exception:
        """Return the room's error for a failure of SQLite. The text of SQLite never quotes a value."""
        what, remedy = f"{self.path} cannot be used: {error}.", "Check the space on its disk, and owner and mode."
        if isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorname", "") not in _NO_TROUBLE:
            self.trouble = f"{what} {remedy}"
        return self._faults.failed(what, remedy)

    # Private

    def _erase(self) -> None:
        # A process that holds the file is not waited for a second time.
        reason = self._cut_log(0.0 if self._erase_failed else self._busy_timeout_s)
        if reason:
            if not self._erase_failed:
                _log.warning(
                    "KC4001 what was deleted is still in the log of %s: %s; it goes at the next chance",
                    self.path,
                    reason,
                )
            self._erase_failed = True
            return
        if self._erase_failed:
            _log.info("what was deleted has gone from the log of %s", self.path)
        self._erase_owed = self._erase_failed = False
        self.erasures += 1

    def _cut_log(self, wait_s: float) -> str:
        """Move the log into the file and truncate it (SEC-29). Returns the reason if that fails, else None."""
        try:
            self.connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
            ((busy, _, _),) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            return str(error)
        finally:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
        return "another process reads it" if busy else ""

    def _check_private(self, remedy: str) -> None:
        files.check(self.path, self._faults.unusable, writable=True)
        for suffix in BESIDE:
            beside = self.path.with_name(self.path.name + suffix)
            if os.path.lexists(beside):
                files.check(beside, self._faults.unusable)
        if self.path.stat().st_size == 0:  # SEC-37
            raise self._faults.unusable(f"{self.path} is empty.", remedy)

    def _prepare(self, migrations: Sequence[str], holds: str, remedy: str) -> None:
        ((verdict,),) = self.connection.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        if migrations:
            self._migrate(migrations, holds, remedy)
        self.connection.execute("PRAGMA foreign_keys = ON")
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:  # perhaps left by a process that was killed before it could erase
            self._erase_owed = bool(self._cut_log(0.0))

    def _migrate(self, migrations: Sequence[str], holds: str, remedy: str) -> None:
        ((version,),) = self.connection.execute("PRAGMA user_version").fetchall()
        if version > len(migrations):
            raise self._faults.unusable(
                f"{self.path} was written by a newer keycast (schema {version}, this one knows {len(migrations)}).",
                "Install that version again.",
            )
        if version == 0:  # SEC-37
            raise self._faults.unusable(f"{self.path} is empty: it has no {holds}.", remedy)
        if version == len(migrations):
            return
        self.connection.execute("BEGIN EXCLUSIVE")
        try:
            ((version,),) = self.connection.execute("PRAGMA user_version").fetchall()  # another process may be faster
            _run_scripts(self.connection, migrations, version)
            self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _create(self, migrations: Sequence[str], holds: str, remedy: str) -> None:
        log = self.path.with_name(self.path.name + "-wal")
        unfinished = self.path.with_name(f".{self.path.name}.unfinished")
        try:
            with files.locked(self.path.parent):
                if os.path.lexists(self.path):
                    return  # another process was faster
                if os.path.lexists(log) and os.lstat(log).st_size:  # SEC-37
                    raise self._faults.unusable(f"{self.path} is missing, and its log {log.name} is there.", remedy)
                try:
                    _remove(unfinished)  # left by a process that was killed
                    files.write_out(unfinished, _empty(tuple(migrations)))
                    os.rename(unfinished, self.path)
                    folders.sync(self.path.parent)
                finally:
                    _remove(unfinished)
        except sqlite3.Error as error:
            raise self._told(error, holds, remedy) from None
        except OSError as error:
            raise self._faults.unusable(f"Cannot make {self.path}: {error.strerror}.", _CHECK_SPACE) from None

    def _told(self, error: sqlite3.Error, holds: str, remedy: str) -> Exception:
        if isinstance(error, sqlite3.OperationalError):  # the disk or the folder, not what is in the file
            return self._faults.unusable(f"{self.path} cannot be used: {error}.", _CHECK_SPACE)
        return self._faults.unusable(f"The {holds} in {self.path} cannot be read, it is damaged: {error}.", remedy)


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


@lru_cache(maxsize=8)
def _empty(migrations: tuple[str, ...]) -> bytes:
    """Return the octets of a file with the schema and no rows. It is made in memory, and written at once."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        _run_scripts(connection, migrations, 0)
        connection.execute("COMMIT")
        connection.execute("VACUUM")  # writes the header of a file without tables, too
        image = bytearray(connection.serialize())
    image[_VERSIONS] = _WAL
    return bytes(image)


def _run_scripts(connection: sqlite3.Connection, migrations: Sequence[str], version: int) -> None:
    for script in migrations[version:]:
        for statement in statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _remove(path: Path) -> None:
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
