"""Tree master secrets: one private file for each generation, apart from the database.

Why not a table: a backup is a copy of the database, and it must never hold a tree master (SEC-02); and a file of 32
octets can be overwritten in place when its generation ends, which a database page cannot. The database holds a
fingerprint of each, so that files and database of different age are noticed.

Order of writing: the file is on the disk before the row that names it; the row is gone before the file is. A file
without a row is therefore left over from a power cut and is erased at the next start.
"""

import os
from pathlib import Path

from cpns.crypto.hmac import h16

TREE_MASTER_LEN = 32


def fingerprint(tree_master: bytes) -> bytes:
    """8 octets that tell tree masters apart and say nothing about them."""
    return h16(tree_master, b"keycast/tm-fingerprint/1")[:8]


class TreeMasters:
    """The tree masters in `folder`, which is created with mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def __repr__(self) -> str:
        return f"TreeMasters({str(self._folder)!r})"

    def generations(self) -> list[int]:
        """Generations that have a file, ascending."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def load(self, generation: int) -> bytes | None:
        """32 octets, or None if there is no whole file."""
        try:
            secret = self._path(generation).read_bytes()
        except FileNotFoundError:
            return None
        return secret if len(secret) == TREE_MASTER_LEN else None

    def create(self, generation: int, tree_master: bytes) -> None:
        """Write a new file and see it onto the disk. Raises FileExistsError: a generation has one tree master."""
        if len(tree_master) != TREE_MASTER_LEN:
            raise ValueError(f"a tree master has {TREE_MASTER_LEN} octets, not {len(tree_master)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        _write_out(os.open(self._path(generation), flags, 0o600), tree_master)
        self._sync_folder()

    def erase(self, generation: int) -> None:
        """Overwrite and remove the file, where the medium allows. No file is no error."""
        path = self._path(generation)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        _write_out(file, bytes(TREE_MASTER_LEN))
        path.unlink()
        self._sync_folder()

    def _path(self, generation: int) -> Path:
        return self._folder / str(generation)

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_out(file: int, data: bytes) -> None:
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
