"""Replacing the whole state in a folder by another one. It may be interrupted at any step and repeated (SEC-33).

The new state is made complete in a folder beside the old one. One rename decides: before it the old state is complete
and stays; after it the new one is complete, and is put in place by steps that can be repeated. A process that holds the
lock of the folder calls `finish` before it opens anything in it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from private_store import contents, files, folders, sqlite_file
from private_store.errors import FAULTS, Fault, Faults, StoreUnusable
from private_store.folder_lock import FolderLock

LOCK = "state.lock"
_NEW = "restore.new"  # being made: worth nothing
_READY = "restore.ready"  # whole: the old state goes
_CLEARED = "restore.cleared"  # the old state has gone: the new one comes


@contextlib.contextmanager
def taken(folder: Path, owned: Iterable[str], faults: Faults = FAULTS) -> Iterator[None]:
    """Lock the state folder for this process and `finish` what was decided. Raises `in_use`, `unusable`."""
    lock = FolderLock(folder, LOCK, what="the state folder", remedy="Stop it first.", faults=faults)
    try:
        finish(folder, owned, faults.unusable)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def putting_back(
    folder: Path, members: Mapping[str, bytes], owned: tuple[str, ...], fault: Fault = StoreUnusable
) -> Iterator[Path]:
    """Yield a folder with the members of a backup, each on the list of its folder; it becomes the state afterwards."""
    new = begin(folder, owned, fault)
    try:
        for name, octets in members.items():
            target = new / name
            folders.make(target.parent, fault)
            with contextlib.ExitStack() as listed:
                for each in (target.parent, target):
                    if each != new:
                        listed.enter_context(contents.keeping(each, "", fault))
                files.write_new(target, octets, fault)
        yield new
    except BaseException:
        abandon(folder, fault)
        raise
    decide(folder, owned, fault)


def begin(folder: Path, owned: Iterable[str], fault: Fault = StoreUnusable) -> Path:
    """Return the empty folder in which to make the new state. One that was decided on before is put in place first."""
    finish(folder, owned, fault)
    new = folder / _NEW
    folders.make(new, fault)
    return new


def decide(folder: Path, owned: Iterable[str], fault: Fault = StoreUnusable) -> None:
    """Make the folder that `begin` returned the state, and put it in place. It is complete and nobody has it open."""
    try:
        for each in sorted((folder / _NEW).rglob("*")):
            if each.is_dir():
                folders.sync(each)
        folders.sync(folder / _NEW)
        os.rename(folder / _NEW, folder / _READY)
        folders.sync(folder)
    except OSError as error:
        raise fault(
            f"Cannot write {folder}: {error.strerror}.", "Check the space on its disk, then do it again."
        ) from None
    finish(folder, owned, fault)


def abandon(folder: Path, fault: Fault = StoreUnusable) -> None:
    """Remove the folder that `begin` returned: the old state stays."""
    _clear(folder / _NEW, fault)


def unfinished(folder: Path) -> bool:
    """Return True if a state was decided on and is not in place yet: `finish` must come before anything is opened."""
    return any(os.path.lexists(folder / name) for name in (_READY, _CLEARED))


def finish(folder: Path, owned: Iterable[str], fault: Fault = StoreUnusable) -> None:
    """Put in place a state that was decided on, and remove one that was not.

    `owned` are the names in `folder` that belong to a state, a folder's with a final "/"; nothing else is touched.
    """
    try:
        if os.path.lexists(folder / _READY):
            for name in owned:
                _clear(folder / name.rstrip("/"), fault)
            os.rename(folder / _READY, folder / _CLEARED)
            folders.sync(folder)
        cleared = folder / _CLEARED
        if os.path.lexists(cleared):
            for path in sorted(path for path in cleared.rglob("*") if path.is_file()):
                target = folder / path.relative_to(cleared)
                folders.make(target.parent, fault)
                os.rename(path, target)
                folders.sync(target.parent)
            shutil.rmtree(cleared)
            folders.sync(folder)
        _clear(folder / _NEW, fault)
    except OSError as error:
        raise fault(
            f"Cannot put the restored state into {folder}: {error.strerror}.", "Check its disk, then do it again."
        ) from None


def _clear(path: Path, fault: Fault) -> None:
    """Overwrite and remove a file with SQLite's files beside it, or a folder with all its content."""
    if path.is_dir() and not path.is_symlink():
        for each in path.rglob("*"):
            if not each.is_dir() or each.is_symlink():
                _clear_file(each, fault)
        shutil.rmtree(path)
        return
    for suffix in (*sqlite_file.BESIDE, ""):
        _clear_file(path.with_name(path.name + suffix), fault)


def _clear_file(path: Path, fault: Fault) -> None:
    if path.is_file() and not path.is_symlink():
        files.erase(path, fault)
    else:
        path.unlink(missing_ok=True)
