"""The option for the label of a board: a file, or the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal.options import remark

IN_TERMINAL = "-"

LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="FILE",
        help="New file (.svg, .png) for a label with the board's name and a pairing secret, or - for the terminal.",
        show_default=False,
    ),
]


def is_file(label: str | None) -> bool:
    """Return whether the option names a file."""
    return label not in (None, IN_TERMINAL)


def require_kind(label: str | None) -> None:
    """Raise ProvisioningFault if the option names a file that can be no new label."""
    from keycast.board import label as labels

    if label is not None and is_file(label):
        labels.require_kind(Path(label))


def show(label: str | None, board: str, characters: str) -> None:
    """Write or show the label of the board called `board`, with this secret. Raises ProvisioningFault."""
    from keycast.board import label as labels

    if label == IN_TERMINAL:
        remark(labels.text(board, characters))
    elif label is not None:
        labels.write(Path(label), board, characters)
