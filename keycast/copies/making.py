"""Making one backup: where it goes, whether it can be opened again, and which older ones go for it."""

import contextlib
import datetime
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from keycast.copies.rotation import Kept, surplus
from private_store import archive, files, folders, plain_file, sealed
from private_store.errors import StoreUnusable

_SQLITE = b"SQLite format 3\0"
_UNFINISHED = "backup.unfinished"
_NAME = re.compile(r"[a-z]+-(\d{6,})-\d{4}-\d\d-\d\d\.backup")


@dataclass(frozen=True)
class Rotation:
    """A folder of backups, and for how many days and weeks one stays in it."""

    folder: Path
    daily: int
    weekly: int


@dataclass(frozen=True)
class Made:
    """A backup that was written and opened again, and the older ones that were removed for it.

    `is_for_recipient`: a private key opens it, and no passphrase.
    """

    path: Path
    about: dict[str, str]
    removed: tuple[Path, ...] = ()
    is_for_recipient: bool = False


def make(kind: str, where: Path | Rotation, lock: sealed.Lock, write: Callable[[Path], object]) -> Made:
    """Let `write` write a backup of a `kind` ("gateway"), open it again, and remove what is surplus in its folder.

    A backup that does not open is removed, and nothing else. Raises StoreUnusable.
    """
    if isinstance(where, Path):
        path = where
    else:
        folders.make(where.folder)
        number = 1 + max((number for number, _ in _numbered(where.folder)), default=0)
        path = where.folder / f"{kind}-{number:06}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.backup"
    write(path)
    try:
        about = verified(path, sealed.with_key_of(lock)).about
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    removed = () if isinstance(where, Path) else _rotated(where, about)
    return Made(path, about, removed, lock.told["kind"] == sealed.RECIPIENT)


@contextlib.contextmanager
def from_running(state: Path, path: Path) -> Iterator[Path]:
    """Yield a name in the state folder, which the process that runs there can write; the file there becomes `path`."""
    within = state.absolute() / _UNFINISHED
    within.unlink(missing_ok=True)  # of a command that was killed
    try:
        yield within
        files.write_new(path, plain_file.read(within, archive.OCTETS_MAX))
    finally:
        within.unlink(missing_ok=True)


def verified(path: Path, unlock: sealed.Unlock) -> archive.Opened:
    """Return what is in a backup, once every database in it was looked through. Raises StoreUnusable."""
    opened = archive.read(path, unlock)
    for name, octets in opened.members.items():
        if octets.startswith(_SQLITE) and not _is_whole(octets):
            raise StoreUnusable(f"{name} in {path} is damaged.", "Make another backup, and look at the disk.")
    return opened


def schemas(members: Mapping[str, bytes]) -> str:
    """Return the schema numbers of the databases in a backup: `store/gateway.db 9, sessions.db 7`."""
    numbers = {name: int.from_bytes(octets[60:64], "big") for name, octets in members.items() if octets[:16] == _SQLITE}
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _is_whole(octets: bytes) -> bool:
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(octets)
            return bool(database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])
    except sqlite3.Error:
        return False


def _rotated(where: Rotation, about: Mapping[str, str]) -> tuple[Path, ...]:
    """Remove what is surplus of the backups of the one that `about` is of; nothing else in the folder is touched."""
    paths: dict[Kept, Path] = {}
    for number, path in _numbered(where.folder):
        try:
            told = archive.manifest(path)
            if all(told.get(key) == about.get(key) for key in ("of", "id")):
                paths[Kept(number, datetime.datetime.fromisoformat(told["made"]).date())] = path
        except (StoreUnusable, KeyError, ValueError):
            continue  # a person looks at it
    gone = [paths[each] for each in surplus(paths, where.daily, where.weekly)]
    for path in gone:
        path.unlink()
    return tuple(gone)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = ((_NAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return [(int(match[1]), path) for match, path in found if match]
