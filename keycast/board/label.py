"""The label of a board: its name and its pairing secret for people and, as a QR code, for cameras (SEC-20)."""

import html
import io
from pathlib import Path
from typing import Any

from gateway_agent import pairing_secret
from keycast.board.faults import ProvisioningFault
from private_store import files

KINDS = (".svg", ".png")
_SCALE = 8  # pixels or units of one module of the code
_LINE = 4 * _SCALE  # height of a line of text


def write(path: Path, board: str, characters: str) -> None:
    """Write the label for the board called `board` with this secret, 16 characters, to the new file `path`.

    Only this user can read the file. An SVG has the text below the code; a PNG has the code alone. Raises
    ProvisioningFault for another kind of file, or if it cannot be written.
    """
    require_kind(path)
    code = _code(board, characters)
    octets = _svg(code, board, characters) if path.suffix == ".svg" else _png(code)
    files.write_new(path, octets, ProvisioningFault)


def require_kind(path: Path) -> None:
    """Raise ProvisioningFault unless a label can be written to a file of this name, which is new."""
    if path.suffix not in KINDS:
        raise ProvisioningFault(f"A label is a file {' or '.join(KINDS)}, not {path.name}.", "Name another one.")
    if path.exists():
        raise ProvisioningFault(f"{path} is there already.", "Name a new file for the label.")


def text(board: str, characters: str) -> str:
    """Return the label for a terminal: the code in block characters, name and secret below."""
    shown = io.StringIO()
    _code(board, characters).terminal(shown, compact=True)
    return f"{shown.getvalue()}{board}\n{pairing_secret.in_fours(characters)}"


def _code(board: str, characters: str) -> Any:
    import segno

    return segno.make(pairing_secret.qr_text(board, characters), micro=False)


def _png(code: Any) -> bytes:
    octets = io.BytesIO()
    code.save(octets, kind="png", scale=_SCALE)
    return octets.getvalue()


def _svg(code: Any, board: str, characters: str) -> bytes:
    width, height = code.symbol_size(scale=_SCALE)
    lines = (board, pairing_secret.in_fours(characters))
    rows = "".join(
        f'<text x="{width / 2}" y="{height + _LINE * (number + 0.7)}" text-anchor="middle" font-family="monospace" '
        f'font-size="{min(_LINE * 0.75, width / max(len(line), 1) * 1.5):.1f}">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + _LINE * len(lines)}">'
        f'<rect width="100%" height="100%" fill="white"/>{code.svg_inline(scale=_SCALE)}{rows}</svg>\n'
    ).encode()
