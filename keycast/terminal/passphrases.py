"""Passphrases of files: from the first line of a private file, or typed at a terminal, which does not show them."""

import sys
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal.options import refuse

PASSPHRASE_MIN = 12
_LINE_MAX = 1024
_NO_TERMINAL = "there is no terminal to ask for the passphrase: name a file with --passphrase-file"

PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", readable=False, help="File with the passphrase in its first line, of mode 0600."),
]


def new(asks: str, file: Path | None, or_else: str = "") -> bytes:
    """Return a passphrase that is long enough for a new file; one that is typed is typed twice.

    `asks` is the prompt, `or_else` what can be done without a terminal beside naming a file. Raises StoreUnusable.
    """
    if file is not None:
        passphrase = _in_file(file)
    elif sys.stdin.isatty():
        passphrase = typer.prompt(asks, hide_input=True, confirmation_prompt=True, err=True)
    else:
        refuse(_NO_TERMINAL + or_else)
    if len(passphrase) < PASSPHRASE_MIN:
        refuse(f"the passphrase has fewer than {PASSPHRASE_MIN} characters: whoever gets the file can try them all")
    return _octets(passphrase)


def known(asks: str, file: Path | None) -> bytes:
    """Return the passphrase of a file that there is. Raises StoreUnusable."""
    if file is not None:
        return _octets(_in_file(file))
    if not sys.stdin.isatty():
        refuse(_NO_TERMINAL)
    return _octets(typer.prompt(asks, hide_input=True, err=True))


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
