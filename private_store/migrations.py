"""Numbered SQL scripts in a package, 0001_name.sql and so on, and their statements."""

import re
import sqlite3
from collections.abc import Iterator
from importlib import resources

_SCRIPT = re.compile(r"(\d+)_\w+\.sql")


def scripts(package: str) -> list[str]:
    """Return the texts of the scripts in `package`, in order. The first n of them make schema version n."""
    entries = [
        (int(m[1]), entry) for entry in resources.files(package).iterdir() if (m := _SCRIPT.fullmatch(entry.name))
    ]
    entries.sort(key=lambda numbered: numbered[0])
    if [number for number, _ in entries] != list(range(1, len(entries) + 1)):
        raise RuntimeError(f"the scripts in {package} are not numbered 1, 2, ...")
    return [entry.read_text(encoding="utf-8") for _, entry in entries]


def statements(script: str) -> Iterator[str]:
    """Yield the statements of an SQL script. `executescript` would end the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
