"""The options by which a board on a port gets its Wi-Fi, whose password is not typed among the words of a command."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keycast.terminal.options import refuse, sentences

if TYPE_CHECKING:
    from keycast.board.provisioning import Wifi

_STANDARD_INPUT = "-"
_LINE_MAX = 1024  # octets, far longer than a password

WifiOption = Annotated[
    str | None,
    typer.Option(
        "--wifi",
        help="Name of the Wi-Fi that the board is to use, at 2.4 GHz; its password is asked for. Default: that "
        "which the board has already.",
        show_default=False,
    ),
]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--wifi-password-file",
        readable=False,
        help="File with the password in its first line, or - for standard input.",
        show_default=False,
    ),
]


def wifi_of(name: str | None, password_file: Path | None) -> "Wifi | None":
    """Return the Wi-Fi of a name, with its password from the file or from the terminal, where it is not shown."""
    from keycast.board.provisioning import Wifi

    if name is None:
        if password_file is not None:
            refuse("a password needs the name of its Wi-Fi: add --wifi NAME")
        return None
    with sentences():
        if password_file is None:
            if not sys.stdin.isatty():
                refuse("there is no terminal to ask for the password: name a file with --wifi-password-file, or -")
            password = typer.prompt(f"Password of {name}", hide_input=True, default="", show_default=False, err=True)
        elif str(password_file) == _STANDARD_INPUT:
            password = sys.stdin.buffer.readline(_LINE_MAX).decode("utf-8", "surrogateescape")
        else:
            with open(password_file, "rb") as file:
                password = file.readline(_LINE_MAX).decode("utf-8", "surrogateescape")
        return Wifi(name, password.rstrip("\r\n"))
