"""Files that hold secrets: made new with mode 0600, read only while nobody else can."""

import os
import stat
from pathlib import Path

from key_servers.errors import ServerError

FILE_MAX = 64 * 1024


class SecretFileUnusable(ServerError):
    """A file with secrets that is missing, readable by others, there already, or not what it should be."""


def write_new(path: Path, octets: bytes) -> None:
    """Write a file that must not exist yet; it is on the medium on return. Raises SecretFileUnusable."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise SecretFileUnusable(f"{path} exists already.", "Use it, or move it away first.") from None
    except OSError as error:
        raise SecretFileUnusable(f"Cannot create {path}: {error.strerror}.", "Check the folder.") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read(path: Path, missing: str = "Name the right one.") -> bytes:
    """The octets of a file of our own that nobody else can read. Raises SecretFileUnusable.

    `missing`: what to do when it is not there.
    """
    check(path, missing)
    try:
        with open(path, "rb") as file:
            octets = file.read(FILE_MAX + 1)
    except OSError as error:
        raise SecretFileUnusable(f"Cannot read {path}: {error.strerror}.", "Check its owner.") from None
    if len(octets) > FILE_MAX:
        raise SecretFileUnusable(f"{path} has more than {FILE_MAX} octets.", "Put back the right file.")
    return octets


def check(path: Path, missing: str = "Name the right one.") -> None:
    """Raise SecretFileUnusable unless the file is there, is ours and nobody else can read or write it."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise SecretFileUnusable(f"{path} does not exist.", missing) from None
    except OSError as error:
        raise SecretFileUnusable(f"Cannot read {path}: {error.strerror}.", "Check its folder.") from None
    if not stat.S_ISREG(status.st_mode):
        raise SecretFileUnusable(f"{path} is no ordinary file.", "Put back the right file.")
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise SecretFileUnusable(f"{path} can be read by others.", f"Run: chown $USER {path}; chmod 600 {path}")
