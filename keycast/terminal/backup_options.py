"""Options of the commands that make, show and put back backups: what locks a backup, and what opens it."""

import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keycast.terminal.options import beside, folder, refuse

if TYPE_CHECKING:
    from keycast.copies.making import Made, Rotation
    from private_store.sealed import Lock, Unlock

PASSPHRASE_MIN = 12
_LINE_MAX = 1024
_NO_TERMINAL = "there is no terminal to ask for the passphrase: name a file with --passphrase-file"

NewFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", readable=False, help="New file for the backup, unless there is --into."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", readable=False, help="File with the passphrase in its first line, of mode 0600."),
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
    if passphrase_file is not None:
        passphrase = _in_file(passphrase_file)
    elif sys.stdin.isatty():
        passphrase = typer.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=True, err=True)
    else:
        refuse(_NO_TERMINAL + ", or a recipient with --recipient")
    if len(passphrase) < PASSPHRASE_MIN:
        refuse(f"the passphrase has fewer than {PASSPHRASE_MIN} characters: whoever gets the file can try them all")
    return sealed.lock_by_passphrase(_octets(passphrase))


def unlock_of(path: Path, passphrase_file: Path | None, key: Path | None) -> "Unlock":
    """Return what opens the backup `path`; ask for its passphrase if no file is named. Raises StoreUnusable."""
    from private_store import archive, backup_keys, sealed

    kind = archive.kind_of_lock(path)
    if kind == sealed.RECIPIENT and key is None:
        refuse(f"{path} was made for a recipient: name its private file with --key")
    if key is not None:
        return sealed.with_private_key(backup_keys.private_key(key))
    if passphrase_file is not None:
        return sealed.with_passphrase(_octets(_in_file(passphrase_file)))
    if kind != sealed.PASSPHRASE:  # of the former release: there is nothing to open
        beside(f"keycast: {path} is not encrypted. The next release reads encrypted backups only: make a new one.")
        return sealed.with_passphrase(b"")
    if not sys.stdin.isatty():
        refuse(_NO_TERMINAL)
    return sealed.with_passphrase(_octets(typer.prompt(f"Passphrase of {path}", hide_input=True, err=True)))


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


def _in_file(path: Path) -> str:
    from private_store import files

    line = files.read(path, most=_LINE_MAX).partition(b"\n")[0]
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        refuse(f"the first line of {path} is not UTF-8")


def _octets(passphrase: str) -> bytes:
    """The same characters are the same octets, whatever keyboard they were typed on."""
    return unicodedata.normalize("NFC", passphrase).encode()
