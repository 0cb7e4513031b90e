"""Private files: mode 0600, owned by us, with one name. Each is complete or absent, and overwritten when removed.

A file is written under an unfinished name, synced to the medium and then renamed, so a power cut leaves no half of it.
A file that another user can read or exchange is refused.
"""

import contextlib
import fcntl
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from private_store import folders
from private_store.errors import Fault, StoreUnusable

MODE = 0o600
OCTETS_MAX = 64 * 1024
_OTHERS = 0o077
_OTHERS_EXCHANGE = 0o002
# Never through a link, and never waiting for the other end of a pipe.
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def write_new(path: Path, octets: bytes, fault: Fault = StoreUnusable) -> None:
    """Write a file that must not exist yet; it is on the medium on return. Raises `fault`, and then leaves no file."""
    with _naming(path, fault) as unfinished:
        if os.path.lexists(path):
            raise fault(f"{path} exists already.", "Use it, or move it away first.")
        write_out(unfinished, octets)
        os.rename(unfinished, path)


def write_out(path: Path, octets: bytes) -> None:
    """Write a file that must not exist yet under its unfinished name. It is on the medium on return. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, MODE)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def exchanging(path: Path, fault: Fault = StoreUnusable) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes a file, over the one that is there. Raises `fault`, and then the old one stays.

    The caller may read the old file; no other process writes meanwhile.
    """
    with _naming(path, fault) as unfinished:

        def write(octets: bytes) -> None:
            write_out(unfinished, octets)
            _rename_over(unfinished, path)

        yield write


def move(source: Path, target: Path, fault: Fault = StoreUnusable) -> None:
    """Rename `source` to `target` in the same folder; a file of that name is overwritten first. Raises `fault`."""
    try:
        _rename_over(source, target)
        folders.sync(target.parent)
    except OSError as error:
        raise fault(
            f"Cannot write {target}: {error.strerror}.", "Check the space on its disk, and its folder."
        ) from None


def read(
    path: Path,
    fault: Fault = StoreUnusable,
    *,
    missing: str = "Name the right one.",
    exposed: str = "",
    most: int = OCTETS_MAX,
) -> bytes:
    """Return the content of a file that `check` accepts, at most `most` octets. Raises `fault`.

    `exposed` tells a person what to do when others can read it; by default chmod.
    """
    descriptor = _open(path, os.O_RDONLY, fault, missing, exposed)
    try:
        with open(descriptor, "rb") as file:
            octets = file.read(most + 1)
    except OSError as error:
        raise fault(f"Cannot read {path}: {error.strerror}.", "Check its disk.") from None
    if len(octets) > most:
        raise fault(f"{path} has more than {most} octets.", "Put back the right file.")
    return octets


def check(
    path: Path, fault: Fault = StoreUnusable, *, missing: str = "Name the right one.", writable: bool = False
) -> None:
    """Raise `fault` unless `path` is an ordinary file of ours with one name that nobody else can read or exchange.

    `missing` tells a person what to do when it is absent. With `writable`, we must be able to write to it, too.
    """
    os.close(_open(path, os.O_RDWR if writable else os.O_RDONLY, fault, missing))


def check_folder(folder: Path, fault: Fault) -> None:
    """Raise `fault` if others can exchange a file in `folder`. One such as /tmp, where they keep files too, is none."""
    mode = os.stat(folder).st_mode
    if mode & _OTHERS_EXCHANGE and not mode & stat.S_ISVTX:
        raise fault(
            f"Others can write to the folder {folder}, which holds private files.",
            f"Run: chmod 700 {shlex.quote(str(folder))}",
        )


def erase(path: Path, fault: Fault = StoreUnusable) -> None:
    """Overwrite and remove a file, as far as the medium allows. It is no error if it is absent. Raises `fault`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | _FLAGS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise fault(f"Cannot erase {path}: {error.strerror}.", "Check its owner and mode.") from None
    try:
        _overwrite(descriptor)
        os.unlink(path)
        folders.sync(path.parent)
    except OSError as error:
        raise fault(f"Cannot erase {path}: {error.strerror}.", "Check its folder and disk.") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path, fault: Fault) -> Iterator[Path]:
    """Let one process at a time make `path`. Yields the unfinished name, which is removed afterwards."""
    if not path.name:  # "", "." or "/"
        raise fault(f"{path} is a folder.", "Name a file.")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with locked(path.parent):
            unfinished.unlink(missing_ok=True)  # left by a process that was killed
            try:
                yield unfinished
                folders.sync(path.parent)
            finally:
                with contextlib.suppress(OSError):
                    unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise fault(f"Cannot write {path}: {error.strerror}.", "Check the space on its disk, and its folder.") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process of ours makes a file in `folder`. Raises OSError for a folder that cannot be used."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: two first starts at once are rare enough
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _rename_over(source: Path, target: Path) -> None:
    try:
        old = os.open(target, os.O_WRONLY | _FLAGS)
    except FileNotFoundError:
        os.rename(source, target)
        return
    try:
        os.rename(source, target)
        with contextlib.suppress(OSError):  # the new file is in its place either way
            _overwrite(old)
    finally:
        os.close(old)


def _overwrite(descriptor: int) -> None:
    left = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    while left > 0:
        left -= os.write(descriptor, bytes(min(left, OCTETS_MAX)))
    os.fsync(descriptor)


def _open(path: Path, flags: int, fault: Fault, missing: str, exposed: str = "") -> int:
    try:
        _judge(path, os.lstat(path), fault, exposed)  # first: opening a device may already act on it
        check_folder(path.parent, fault)
        descriptor = os.open(path, flags | _FLAGS)
    except FileNotFoundError:
        raise fault(f"{path} does not exist.", missing) from None
    except OSError as error:
        raise fault(f"Cannot use {path}: {error.strerror}.", "Check its owner and mode, and its folder.") from None
    try:
        _judge(path, os.fstat(descriptor), fault, exposed)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _judge(path: Path, status: os.stat_result, fault: Fault, exposed: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise fault(f"{path} is a link.", "Put the file itself in its place.")
    if not stat.S_ISREG(status.st_mode):
        raise fault(f"{path} is no ordinary file.", "Put back the right file.")
    if status.st_uid != os.geteuid():
        raise fault(f"{path} belongs to another user.", f"Run: chown $USER {shlex.quote(str(path))}")
    if status.st_mode & _OTHERS:
        raise fault(f"{path} can be read by others.", exposed or f"Run: chmod 600 {shlex.quote(str(path))}")
    if status.st_nlink > 1:
        raise fault(f"{path} has a second name (a hard link).", f"Run: cp {path} {path}.copy; mv {path}.copy {path}")
