"""One process owns a store (SEC-23): an advisory lock that the kernel drops when the process dies, however it dies."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from gateway_agent.store.errors import StoreDamaged, StoreInUse


class Lease:
    """Exclusive use of the folder `folder` until `release`. Raises StoreInUse at once if another process has it,
    StoreDamaged if the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "store.lock", mode=0o600)
        self._owner = folder / "store.owner"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreInUse(
                f"Process {self._read_owner()} already uses the store {folder}.",
                "Stop it first, or use `keycast gateway` commands, which talk to the running gateway.",
            ) from None
        except OSError as error:
            raise _unusable(folder, error) from None
        try:
            descriptor = os.open(self._owner, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as note:
                note.write(f"{os.getpid()}\n")
        except OSError as error:
            self._lock.release()
            raise _unusable(folder, error) from None

    def release(self) -> None:
        """Give the store up. Calling it twice does nothing more."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    def _read_owner(self) -> str:
        try:
            return str(int(self._owner.read_text()))
        except (OSError, ValueError):  # the owner is between its lock and its note
            return "(unknown)"


def _unusable(folder: Path, error: OSError) -> StoreDamaged:
    return StoreDamaged(
        f"The store {folder} cannot be written: {error.strerror}.",
        "Check the space on its disk, and its owner and mode; then start again.",
    )
