"""A list in each state folder of what was made there (SEC-37). A later start that finds less stops with an error.

Each folder has its own list, `contents.json`, of its files and of the folders below that have one. A name is added when
the file is complete and on the medium, so a first start that was interrupted anywhere goes on at the next one. A folder
without a list was made before there were lists; what is found in it is taken as complete.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from private_store import files
from private_store.errors import Fault, StoreUnusable

NAME = "contents.json"
_FORMAT = "keycast contents 1"
_FOLDER = "/"


@contextlib.contextmanager
def keeping(path: Path, remedy: str, fault: Fault = StoreUnusable) -> Iterator[None]:
    """Put this around opening `path`, or making it if it was never made. It is a file, or a folder with its own list.

    Raises `fault` with `remedy`, before anything is made, if it was made once and is missing or empty now.
    """
    names = made(path.parent, fault)
    if path.name in names:
        _require_file(path, remedy, fault)
    elif path.name + _FOLDER in names:
        _require_folder(path, remedy, fault)
    yield
    if names.isdisjoint((path.name, path.name + _FOLDER)):
        _change(path.parent, fault, add=path.name + _FOLDER if path.is_dir() else path.name)


def made(folder: Path, fault: Fault = StoreUnusable) -> frozenset[str]:
    """Return the names on the list of `folder`, a folder's with a final "/"; none without a list. Raises `fault`."""
    path = folder / NAME
    if not os.path.lexists(path):
        return frozenset()
    try:
        fields = json.loads(files.read(path, fault))
        if fields["format"] != _FORMAT:
            raise ValueError
        return frozenset(map(str, fields["made"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise fault(
            f"{path} is damaged: it lists what was made in its folder.",
            "Put back a backup of the whole state.",
        ) from None


def forget(path: Path, fault: Fault = StoreUnusable) -> None:
    """Take `path` off the list, as a person gave it up: the next start makes it anew. Raises `fault` if it is there."""
    names = made(path.parent, fault)
    if path.name not in names:
        raise fault(f"{path} is no file that was made there.", f"Those are: {', '.join(sorted(names)) or 'none'}.")
    if os.path.lexists(path):
        raise fault(f"{path} is there.", "Move it away first.")
    _change(path.parent, fault, remove=path.name)


def _require_file(path: Path, remedy: str, fault: Fault) -> None:
    if not os.path.lexists(path):
        raise fault(f"{path} is missing, and it was there before.", remedy)
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise fault(f"{path} is empty, and it was not before.", remedy)


def _require_folder(path: Path, remedy: str, fault: Fault) -> None:
    if not os.path.lexists(path):
        raise fault(f"The folder {path} is missing, and it was there before.", remedy)
    if not os.path.lexists(path / NAME):
        raise fault(f"The folder {path} has lost what was in it.", remedy)


def _change(folder: Path, fault: Fault, *, add: str | None = None, remove: str | None = None) -> None:
    with files.exchanging(folder / NAME, fault) as write:
        names = (made(folder, fault) | {add}) - {remove, None}
        write(_text(names))


def _text(names: frozenset[str | None]) -> bytes:
    return (json.dumps({"format": _FORMAT, "made": sorted(map(str, names))}, indent=1) + "\n").encode()
