"""Tree master secrets: one private file for each generation, apart from the database.

Why not a table: a backup is a copy of the database, and it must never hold a tree master (SEC-02); and a file of 32
octets can be overwritten in place when its generation ends, which a database page cannot. The database holds a
fingerprint of each, so that files and database of different age are noticed.

Order of writing: the file is on the disk before the row of its generation; that row is gone before the file is. Around
both stands a row that says "left over": only a file that has one is erased at the next start (SEC-37).
"""

import os
from pathlib import Path

from cpns.crypto.hmac import h16
from gateway_agent.store.errors import StoreDamaged
from private_store import files, folders

TREE_MASTER_LEN = 32


def fingerprint(tree_master: bytes) -> bytes:
    """Return 8 octets that tell tree masters apart and say nothing about them."""
    return h16(tree_master, b"keycast/tm-fingerprint/1")[:8]


class TreeMasters:
    """The tree masters in `folder`, a private one, which is created if need be. All methods raise StoreDamaged."""

    def __init__(self, folder: Path) -> None:
        folders.make(folder, StoreDamaged)
        self._folder = folder

    def __repr__(self) -> str:
        return f"TreeMasters({str(self._folder)!r})"

    def generations(self) -> list[int]:
        """Generations that have a file, ascending."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def load(self, generation: int) -> bytes | None:
        """Return 32 octets, or None if there is no whole file."""
        path = self._path(generation)
        if not os.path.lexists(path):
            return None
        secret = files.read(path, StoreDamaged)
        return secret if len(secret) == TREE_MASTER_LEN else None

    def create(self, generation: int, tree_master: bytes) -> None:
        """Write a new file and see it onto the disk; a generation has one tree master."""
        if len(tree_master) != TREE_MASTER_LEN:
            raise ValueError(f"a tree master has {TREE_MASTER_LEN} octets, not {len(tree_master)}")
        files.write_new(self._path(generation), tree_master, StoreDamaged)

    def erase(self, generation: int) -> None:
        """Overwrite and remove the file, where the medium allows. No file is no error."""
        files.erase(self._path(generation), StoreDamaged)

    def _path(self, generation: int) -> Path:
        return self._folder / str(generation)
