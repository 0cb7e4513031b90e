"""The `ports.Storage` that keeps each value as a file in a folder of its own."""

import errno
import os
import re
import stat
from pathlib import Path

_OTHERS_WRITE = 0o022
_NAME = re.compile(r"[A-Za-z0-9_-]{1,15}\Z")


class FileStorage:
    """A store with one file for each name in `folder`, which is made if need be. Modes are 0700 and 0600.

    A value is written over the old one in place, so that an old key does not stay in a freed block; `KeyStore` deals
    with torn writes. Only one process may use a folder at a time (SEC-23): it is locked until `close`. Raises
    BlockingIOError if another process has it, PermissionError if it is a link, belongs to another user, or lets others
    write to it. A file that is a link is not followed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        import fcntl

        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(self._folder)
        if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise PermissionError(errno.EPERM, "not a folder that only its owner writes to", str(self._folder))
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise
        self._dirty: set[str] = set()

    def get(self, name: str) -> bytes | None:
        try:
            with open(os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def set(self, name: str, octets: bytes) -> None:
        handle = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(octets)
            file.truncate()
        self._dirty.add(name)

    def delete(self, name: str) -> None:
        held = self.get(name)
        if held is not None:
            self.set(name, bytes(len(held)))
            self.commit()
            self._path(name).unlink()

    def commit(self) -> None:
        for name in self._dirty:
            handle = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._dirty.clear()
        os.fsync(self._lock)

    def close(self) -> None:
        """Unlock the folder, for the next process."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no record name")
        return self._folder / name
