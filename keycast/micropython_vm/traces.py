"""Read the tracebacks of a board, whose files are made smaller (`compile.py`).

A traceback of a bundle says `File "pne_agent", line 1557, in sinh`; `readable` makes it
`File "device_agent/membership.py", line 178, in pull`. Where its last line has a name that the firmware lends, it says
which name that is in the repository: `no attribute 'sinh'` becomes `no attribute 'pull_wait' ('sinh' on the board)`.
"""

import ast
import bisect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keycast.micropython_vm.board_files import FOLDER
from keycast.places import BUILD, SITE

NAME = "traces.json"
BOARD = BUILD / "sources" / "board" / NAME  # of the files that this installation gives to boards
_NAME = re.compile(r"(?P<of>has no attribute|keyword argument|NameError: name) '(?P<name>\w+)'")
_PLACE = re.compile(r'File "(?P<module>[\w./]+)", line (?P<line>\d+)(, in (?P<name>\w+))?')


def readable(text: str, traces: Path = BOARD) -> str:
    """Return `text` with the places of tracebacks as in the repository.

    `traces` is the file NAME beside the sources that the board runs; without it the text stays as it is.
    """
    if not (_PLACE.search(text) or _NAME.search(text)):
        return text
    try:
        told = json.loads(traces.read_text())
        lines: Mapping[str, list[tuple[int, str]]] = told["lines"]
        borrowed: Mapping[str, str] = told["borrowed"]
    except (OSError, ValueError, KeyError):
        return text
    return _NAME.sub(lambda found: _name(found, borrowed), _PLACE.sub(lambda found: _place(found, lines), text))


def joined(told: Mapping[str, Any]) -> set[str]:
    """Return the paths of the modules that are in bundles, as the file NAME tells them."""
    return {path for parts in told["lines"].values() for _, path in parts}


def _name(found: "re.Match[str]", borrowed: Mapping[str, str]) -> str:
    here = found["name"]
    return f"{found['of']} '{borrowed[here]}' ('{here}' on the board)" if here in borrowed else found[0]


def _place(found: "re.Match[str]", lines: Mapping[str, list[tuple[int, str]]]) -> str:
    line, module = int(found["line"]), found["module"].removesuffix(".mpy").rpartition("/")[2]
    if module in lines:
        at = bisect.bisect([first for first, _ in lines[module]], line) - 1
        first, path = lines[module][at]
        line -= first - 1
    else:
        path = found["module"].replace(".", "/") + ".py"
    source = (SITE if "/" in path else FOLDER) / path
    name = _function_at(source, line) or found["name"]
    return f'File "{path}", line {line}' + (f", in {name}" if name else "") if source.is_file() else found[0]


def _function_at(source: Path, line: int) -> str | None:
    """Return the name of the innermost function around a line of a source, or None."""
    if not source.is_file():
        return None
    functions = [
        node
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(functions, key=lambda node: node.lineno).name if functions else None
