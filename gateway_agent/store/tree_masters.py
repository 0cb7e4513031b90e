"""Tree master secrets: one private file for each generation, apart from the database.

They are no table of the database for two reasons. A backup is a copy of the database, and it must never hold a tree
master (SEC-02). A file of 32 octets can be overwritten in place when its generation ends, a database page cannot. The
database holds a fingerprint of each tree master, so that files and database of different age are noticed.

The file is written before the row of its generation, and erased after that row is deleted. During both steps the
database has a row in `leftover_tree_master`; only a file with such a row is erased at the next start (SEC-37).
"""

import os
from pathlib import Path

from cpns.crypto.hmac import h16
from gateway_agent.store.errors import StoreDamaged
from private_store import files, folders

TREE_MASTER_LEN = 32


def fingerprint(tree_master: bytes) -> bytes:
    """Return 8 octets that differ between tree masters and reveal nothing about them."""
    return h16(tree_master, b"keycast/tm-fingerprint/1")[:8]


class TreeMasters:
    """The tree masters in the private folder `folder`, which is created if needed. All methods raise StoreDamaged."""

    def __init__(self, folder: Path) -> None:
        folders.make(folder, StoreDamaged)
        self._folder = folder

    def __repr__(self) -> str:
        return f"TreeMasters({str(self._folder)!r})"

    def generations(self) -> list[int]:
        """Return the generations that have a file, ascending."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def load(self, generation: int) -> bytes | None:
        """Return the tree master, 32 octets, or None if there is no file or it has another length."""
        path = self._path(generation)
        if not os.path.lexists(path):
            return None
        secret = files.read(path, StoreDamaged)
        return secret if len(secret) == TREE_MASTER_LEN else None

    def create(self, generation: int, tree_master: bytes) -> None:
        """Write the tree master of a generation to a new file and sync it. Raises ValueError for a wrong length."""
        if len(tree_master) != TREE_MASTER_LEN:
            raise ValueError(f"a tree master has {TREE_MASTER_LEN} octets, not {len(tree_master)}")
        files.write_new(self._path(generation), tree_master, StoreDamaged)

    def erase(self, generation: int) -> None:
        """Overwrite the file, as far as the medium allows, and remove it. Does nothing if there is no file."""
        files.erase(self._path(generation), StoreDamaged)

    def _path(self, generation: int) -> Path:
        return self._folder / str(generation)
