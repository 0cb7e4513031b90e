"""The SQLite file: opened safely, migrated by numbered scripts, written in transactions that are counted.

Used synchronously from the one thread that runs the core. That is deliberate: between the check of a membership and
the write that depends on it nothing else can run, so no handler needs a lock, and a delivery to 1,000 PNEs makes
fewer than 20 commits of some milliseconds (confirmations are batched). Reads never wait for the disk, and between two
transactions a row is read once: the confirmations of a delivery all ask for the same group, key and generation.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from gateway_agent.store.errors import StoreDamaged

_log = logging.getLogger(__name__)

_KNOWN_MAX = 1024  # rows remembered between two transactions
_BUSY_TIMEOUT_S = 0.0  # the lease keeps every other writer out; waiting would hide a bug


class Database:
    """One open SQLite file of mode 0600. The caller holds the lease of its folder.

    `commits` counts synced write transactions, `truncations` the WAL truncations after deleting keys (SEC-29).
    """

    def __init__(self, path: Path) -> None:
        """Open or create `path` and bring it to the newest schema. Raises StoreDamaged."""
        self.commits = 0
        self.truncations = 0
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.chmod(path, 0o600)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
            try:
                self._connection.row_factory = sqlite3.Row
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
                    self._connection.execute(f"PRAGMA {pragma}")
                self._migrate()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.OperationalError as error:  # the disk or the folder, not what is in the file
            raise StoreDamaged(
                f"The store {path} cannot be used: {error}.",
                "Check the space on its disk, and owner and mode of its folder; then start again.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(
                f"The store {path} cannot be read: {error}.", "Put back a backup with `keycast gateway restore`."
            ) from error
        self._depth = 0
        self._truncate = False
        self._known: dict[tuple[object, ...], sqlite3.Row | None] = {}

    def close(self) -> None:
        """Close the file; its WAL is written back and removed."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside is on the disk when the block ends, or nothing of it is.

        Nests: an inner block belongs to the outermost. An exception rolls the whole back and goes on.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        owed = self._truncate
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        before = self._connection.total_changes
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._truncate = owed
            if self._connection.in_transaction:  # a full disk may have rolled it back already
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
            self._known.clear()
        self.commits += self._connection.total_changes != before
        if self._truncate:
            self._forget_log()

    def _forget_log(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:  # what was written is committed; the next transaction tries again
            _log.warning("a deleted key is still in the log of the store: %s", error)
            return
        self._truncate = False
        self.truncations += 1

    def forget_log_after_commit(self) -> None:
        """Truncate the WAL when the running transaction has ended: it holds a key that is being deleted."""
        self._truncate = True

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement. Writing outside of `transaction` is refused."""
        self._known.clear()
        cursor = self._connection.execute(sql, values)
        if not self._depth and self._connection.in_transaction:  # pragma: no cover - autocommit never leaves one open
            raise RuntimeError("a write outside of a transaction")
        return cursor

    def many(self, sql: str, rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]) -> None:
        """Run one statement for each row, inside a transaction."""
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        if not self._depth and (sql, values) in self._known:
            return self._known[sql, values]
        row: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        if not self._depth:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[sql, values] = row
        return row

    def number(self, sql: str, *values: object) -> int:
        """The one integer a query gives."""
        return int(self._connection.execute(sql, values).fetchone()[0])

    def copy_to(self, path: Path) -> None:
        """Write a compact copy of the file, as a private file. Raises FileExistsError."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connection.execute("VACUUM INTO ?", (str(path),))

    def _migrate(self) -> None:
        have = self._connection.execute("PRAGMA user_version").fetchone()[0]
        scripts = sorted(
            (
                entry
                for entry in resources.files("gateway_agent.store").joinpath("migrations").iterdir()
                if entry.name.endswith(".sql")
            ),
            key=lambda entry: entry.name,
        )
        if have > len(scripts):
            raise StoreDamaged(
                f"The store was written by a newer program (schema {have}, this one knows {len(scripts)}).",
                "Install that version again.",
            )
        for number, script in enumerate(scripts[have:], have + 1):
            self._connection.executescript(f"BEGIN;\n{script.read_text()}\nPRAGMA user_version={number};\nCOMMIT;")
