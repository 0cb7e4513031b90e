"""Options of the commands that make, show and put back backups: what locks a backup, and what opens it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keycast.terminal import passphrases
from keycast.terminal.options import beside, folder, refuse

if TYPE_CHECKING:
    from keycast.copies.making import Made, Rotation
    from private_store.sealed import Lock, Unlock

NewFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", readable=False, help="New file for the backup, unless there is --into."),
]
RecipientFile = Annotated[
    Path | None,
    typer.Option(
        "--recipient",
        metavar="FILE",
        readable=False,
        help="Public file of `keycast backup new-key`, in place of a passphrase: this machine cannot open the backup.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", readable=False, help="Private file of the recipient it was made for."),
]
WithIdentity = Annotated[
    bool,
    typer.Option("--with-identity", help="Also its own keys and the credentials of its peers: needed after a loss."),
]
Into = Annotated[
    Path | None,
    typer.Option(
        parser=folder,
        metavar="FOLDER",
        help="Write a numbered file into this folder, and remove what is surplus there.",
    ),
]
KeepDaily = Annotated[int, typer.Option(min=1, help="With --into: keep one for each of so many days.")]
KeepWeekly = Annotated[int, typer.Option(min=0, help="With --into: keep one for each of so many weeks.")]
Older = Annotated[
    bool, typer.Option("--older", help="Replace a state that is newer than the backup; first look at what it says.")
]


def where_to(path: Path | None, into: Path | None, daily: int, weekly: int) -> "Path | Rotation":
    """Return the place of a new backup. Refuse both, and none."""
    from keycast.copies.making import Rotation

    if (path is None) == (into is None):
        refuse("name either the FILE to write, or a folder with --into")
    if path is not None:
        return path
    assert into is not None
    return Rotation(into, daily, weekly)


def lock_of(passphrase_file: Path | None, recipient: Path | None) -> "Lock":
    """Return the lock of a new backup; ask for a passphrase, twice, if no file is named. Raises StoreUnusable."""
    from private_store import backup_keys, sealed

    if recipient is not None:
        if passphrase_file is not None:
            refuse("name either a passphrase or a recipient")
        return sealed.lock_for(backup_keys.recipient(recipient))
    new = passphrases.new("Passphrase of the backup", passphrase_file, ", or a recipient with --recipient")
    return sealed.lock_by_passphrase(new)


def unlock_of(path: Path, passphrase_file: Path | None, key: Path | None) -> "Unlock":
    """Return what opens the backup `path`; ask for its passphrase if no file is named. Raises StoreUnusable."""
    from private_store import archive, backup_keys, sealed

    kind = archive.kind_of_lock(path)
    if kind == sealed.RECIPIENT and key is None:
        refuse(f"{path} was made for a recipient: name its private file with --key")
    if key is not None:
        return sealed.with_private_key(backup_keys.private_key(key))
    if passphrase_file is None and kind != sealed.PASSPHRASE:  # of the former release: there is nothing to open
        beside(f"keycast: {path} is not encrypted. The next release reads encrypted backups only: make a new one.")
        return sealed.with_passphrase(b"")
    return sealed.with_passphrase(passphrases.known(f"Passphrase of {path}", passphrase_file))


def made_json(made: "Made") -> dict[str, object]:
    """Return the answer of a command that made a backup."""
    return {"file": str(made.path), "removed": [str(path) for path in made.removed]}


def made_lines(made: "Made", restore: str) -> list[str]:
    """Return the lines about a new backup. `restore` is the command that puts it back, without the file."""
    key = " --key FILE" if made.is_for_recipient else ""
    lines = [f"{made.path} is written, and opens. To put it back: {restore} {made.path}{key}"]
    lines += [f"{path} was removed." for path in made.removed]
    if made.about.get("identity") == "no":
        lines.append("It is for this state folder only. Where that is lost a backup made --with-identity is needed.")
    return lines
