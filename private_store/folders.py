"""Folders of private files: only their owner may add, exchange or remove a file in them."""

import contextlib
import os
import shlex
import stat
from pathlib import Path

from private_store.errors import Fault, StoreUnusable

MODE = 0o700
_OTHERS_WRITE = 0o022


def make(folder: Path, fault: Fault = StoreUnusable) -> None:
    """Make `folder` and its missing parents with mode 0700, or `check` the one that is there."""
    try:
        _make_missing(folder)
    except OSError as error:
        raise fault(f"Cannot make the folder {folder}: {error.strerror}.", "Check the folder above it.") from None
    check(folder, fault)


def check(folder: Path, fault: Fault = StoreUnusable) -> None:
    """Raise `fault` unless `folder` is a folder of ours, no link, and nobody else can write to it.

    Others may see the names in it: secrets are in the files, and those have mode 0600.
    """
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        raise fault(f"The folder {folder} does not exist.", "Name the right one.") from None
    except OSError as error:
        raise fault(f"Cannot use the folder {folder}: {error.strerror}.", "Check the folder above it.") from None
    if stat.S_ISLNK(status.st_mode):
        raise fault(f"{folder} is a link.", f"Name the folder itself: {_target(folder)}")
    if not stat.S_ISDIR(status.st_mode):
        raise fault(f"{folder} is no folder.", "Move it away, or name another one.")
    if status.st_uid != os.geteuid():
        raise fault(f"The folder {folder} belongs to another user.", f"Run: chown -R $USER {shlex.quote(str(folder))}")
    if status.st_mode & _OTHERS_WRITE:
        raise fault(
            f"Others can write to the folder {folder}, which holds private files.",
            f"Run: chmod 700 {shlex.quote(str(folder))}",
        )


def of_user(variable: str, otherwise: str) -> Path:
    """Return our folder in the one that the environment variable names, or else in that one below the user's home."""
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else Path.home() / otherwise) / "keycast"


def of_run() -> Path:
    """Return our folder of what exists only while a program runs. It may be missing."""
    named = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return named / "keycast" if named.is_absolute() else of_user("XDG_CACHE_HOME", ".cache") / "run"


def sync(folder: Path) -> None:
    """Sync the names in `folder` to the medium. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_missing(folder: Path) -> None:
    if os.path.lexists(folder):
        return
    if folder.parent != folder:
        _make_missing(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        folder.mkdir(mode=MODE)
        sync(folder.parent)


def _target(link: Path) -> str:
    try:
        return os.path.realpath(link)
    except OSError:
        return str(link)
