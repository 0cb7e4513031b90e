"""One process at a time works on a folder (SEC-23), by an advisory lock that the kernel drops when the process ends."""

import fcntl
import os
from pathlib import Path

from private_store import files, folders
from private_store.errors import FAULTS, Faults

_NOTE_MAX = 32


class FolderLock:
    """Exclusive use of `folder` until `release`. The file `name` in it holds the lock and names the process."""

    def __init__(self, folder: Path, name: str, *, what: str, remedy: str, faults: Faults = FAULTS) -> None:
        """Make the folder if it is absent and take the lock at once. Raises `faults.in_use`, `faults.unusable`.

        `what` names the folder to a person, as in "the store"; `remedy` tells what to do when another process has it.
        """
        folders.make(folder, faults.unusable)
        path = folder / name
        if os.path.lexists(path):
            files.check(path, faults.unusable)  # before it is opened: it may be a link, or no file at all
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.MODE)
        except OSError as error:
            raise _unusable(folder, error, faults) from None
        try:
            files.check(path, faults.unusable)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = self._owner()
            self.release()
            raise faults.in_use(f"Process {owner} already uses {what} {folder}.", remedy) from None
        except OSError as error:
            self.release()
            raise _unusable(folder, error, faults) from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the folder for other processes. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _owner(self) -> str:
        try:
            return str(int(os.pread(self._descriptor, _NOTE_MAX, 0)))
        except (OSError, ValueError):  # it is between its lock and its note
            return "(unknown)"


def _unusable(folder: Path, error: OSError, faults: Faults) -> Exception:
    return faults.unusable(
        f"The folder {folder} cannot be written: {error.strerror}.",
        "Check the space on its disk, and its owner and mode; then start again.",
    )
