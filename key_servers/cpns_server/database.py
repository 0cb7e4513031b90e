"""The file below the store: for one process, every commit on the medium, nothing deleted left readable (SEC-29)."""

from pathlib import Path
from typing import Any

from key_servers.errors import FAULTS
from private_store.folder_lock import FolderLock
from private_store.migrations import scripts
from private_store.sqlite_file import SqliteFile, Value

FILE_NAME = "cpns_server.sqlite3"
_LOCK_NAME = "cpns_server.lock"


class Database:
    """One open database. Not thread-safe: it belongs to the event loop's thread. All methods raise StoreFailed."""

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
                remedy="Put a backup in its place and run: keycast server restore",
                faults=FAULTS,
            )
        except BaseException:
            self._lock.release()
            raise
        self.transaction = self._file.transaction
        self.erase_after_commit = self._file.erase_after_commit

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._file.close()
        self._lock.release()

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """Run one statement and give its rows."""
        return self._file.rows(sql, *values)

    def write(self, sql: str, *values: Value) -> None:
        """Run one writing statement inside a transaction. Raises RuntimeError outside of one."""
        if not self._file.in_transaction:
            raise RuntimeError("a write outside of a transaction")
        self._file.run(sql, values)
