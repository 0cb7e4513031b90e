"""A note in a state folder of the last backup that was made of it, for those who tell a person that it is long ago."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path

from private_store import files
from private_store.errors import Fault, PrivateStoreError, StoreUnusable

NAME = "last_backup.json"


def note(folder: Path, about: Mapping[str, str], fault: Fault = StoreUnusable) -> None:
    """Write down what the backup says of itself. Raises `fault`."""
    with files.exchanging(folder / NAME, fault) as write:
        write((json.dumps(dict(about), indent=1) + "\n").encode())


def made_at(folder: Path) -> int:
    """Return when the last backup of the state in `folder` was made, in Unix seconds; 0 if none is known of."""
    try:
        return int(datetime.datetime.fromisoformat(noted(folder).get("made", "")).timestamp())
    except (ValueError, OverflowError):
        return 0


def noted(folder: Path) -> dict[str, str]:
    """Return what the last backup of the state in `folder` says of itself, such as `made` (ISO 8601) and `identity`.

    It is empty if there never was one, or if the note cannot be read.
    """
    try:
        fields = json.loads(files.read(folder / NAME))
    except (PrivateStoreError, ValueError, RecursionError):
        return {}
    return {str(name): str(text) for name, text in fields.items()} if isinstance(fields, dict) else {}
