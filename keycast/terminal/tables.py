"""Tables for people and for `grep`. No cell is ever cut, as two long names could then look the same."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = "  "


def show_table(console: Console, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `headers`.

    On a terminal as a table, or where that would be wider than the terminal as one block of lines for each row;
    elsewhere as plain lines, their columns two blanks apart.
    """
    found = [[cell or "-" for cell in row] for row in rows]
    if not console.is_terminal:
        _show_lines(console, [list(headers), *found])
        return
    table = Table(*headers)
    for row in found:
        table.add_row(*(Text(cell) for cell in row))
    if _widest(headers, found) <= console.width:
        console.print(table)
    else:
        _show_blocks(console, headers, found)


def _widest(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the width of the table in characters if no cell is wrapped."""
    columns = zip(headers, *rows, strict=True)
    return sum(max(Text(cell).cell_len for cell in column) + 3 for column in columns) + 1


def _show_lines(console: Console, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(Text(cell).cell_len for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - Text(cell).cell_len) for cell, width in zip(row, widths, strict=True))
        console.print(_GAP.join(padded).rstrip())


def _show_blocks(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        for number, (header, cell) in enumerate(zip(headers, row, strict=True)):
            console.print(f"{_GAP if number else ''}{header}: {cell}" if header else f"{_GAP}{cell}")
