"""Finds the line of a key in a TOML file, so that an error can name it, as tomllib does not keep the lines."""

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"'.]+)\s*=")


def line_of(text: str, where: tuple[int | str, ...]) -> int:
    """Return the line (from 1) of the key or table `where` in TOML `text`, 0 if it has no line.

    A key inside of a value, such as an inline table, has the line of the outer key.
    """
    arrays: dict[tuple[int | str, ...], int] = {}  # array of tables -> index of its newest table
    table: tuple[int | str, ...] = ()
    nearest = 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            *above, last = _names(header[2])
            table = ()
            for part in above:
                table += (part,)
                table += (arrays[table],) if table in arrays else ()
            table += (last,)
            if header[1] == "[[":
                arrays[table] = arrays.get(table, -1) + 1
                table += (arrays[table],)
            path = table
        elif key := _KEY.match(line):
            path = table + _names(key[1])
        else:
            continue
        if path == where or (path[:-1] == where and path[-1:] == (0,)):
            return number
        if where[: len(path)] == path:
            nearest = number
    return nearest


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
