"""The option `--port`, by which the commands for a board on this computer are told which one is meant."""

from typing import Annotated

import typer


def _names() -> list[str]:
    """Return what can be typed, for the completion of the shell."""
    try:
        from keycast.board.ports import ports

        return [each.name for each in ports()]
    except ImportError:  # the extra is not installed; the command says so
        return []


PortOption = Annotated[
    str | None,
    typer.Option(
        "--port",
        "-p",
        help="Port of the board, such as /dev/ttyUSB0, or the name of a virtual board; default: the only board there.",
        autocompletion=_names,
        show_default=False,
    ),
]
