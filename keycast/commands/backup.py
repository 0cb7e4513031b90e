"""`keycast backup`: look at backups, and make the keys of who may open them."""

from pathlib import Path
from typing import Annotated

import typer

from cpns.in_words import version_text
from keycast.terminal.backup_options import KeyFile, unlock_of
from keycast.terminal.json_option import Answering
from keycast.terminal.options import answer, refuse, sentences
from keycast.terminal.passphrases import PassphraseFile

app = typer.Typer(cls=Answering, no_args_is_help=True)

_RECIPIENT = ".recipient"


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup.")],
    verify: Annotated[bool, typer.Option("--verify", help="Open it, and look through every file in it.")] = False,
    passphrase_file: PassphraseFile = None,
    key: KeyFile = None,
) -> None:
    """Show what a backup says of itself: whose it is, when and by which release it was made, and from which state.

    That needs no passphrase, and is only sure once the backup was opened: --verify, --passphrase-file or --key.

    Example: keycast backup show home.backup --verify
    """
    from keycast.copies import making
    from private_store import archive

    with sentences():
        if is_sure := verify or passphrase_file is not None or key is not None:
            opened = making.verified(path, unlock_of(path, passphrase_file, key))
            about = opened.about | {"files": ", ".join(sorted(opened.members))}
        else:
            about = archive.manifest(path)
    answer(
        {"about": about, "verified": is_sure},
        *(f"{name.replace('_', ' ')}: {_for_people(name, text)}" for name, text in about.items()),
        "It was opened, and is whole." if is_sure else "It was not opened. To do that: --verify",
    )


def _for_people(name: str, text: str) -> str:
    """Return what a backup says under `name` in the form that people know from elsewhere."""
    return version_text(int(text)) if name == "newest_version" and text.isascii() and text.isdigit() else text


@app.command("new-key")
def new_key(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="New private file, to be kept elsewhere.")
    ],
) -> None:
    """Make the two files of a recipient of backups: with the public one backups are made, the private one opens them.

    Take the private file away from the machine that makes the backups: who steals that cannot open them then.

    Example: keycast backup new-key home.key; then: keycast gateway backup home.backup --recipient home.recipient
    """
    from private_store import backup_keys

    if not path.name:  # "", "." or "/"
        refuse(f"{path} is a folder. Name the private file, for example home.key")
    public = path.with_suffix(_RECIPIENT)
    if public == path:
        refuse(f"name the private file; the public one is {public} then")
    with sentences():
        backup_keys.make(path, public)
    answer(
        {"private": str(path), "recipient": str(public)},
        f"{path} opens what is made with --recipient {public}. Keep it elsewhere: a restore needs it.",
    )
