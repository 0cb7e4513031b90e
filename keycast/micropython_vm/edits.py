"""Replace spans of the text of a module, given by nodes of its syntax tree, so that all lines keep their numbers."""

import ast
import re
from collections.abc import Iterable

# first line, its column in octets, last line, its column, new text
Edit = tuple[int, int, int, int, str]

_HEAD = re.compile(rb"(?:async\s+)?(?:def|class)\s+")


def of_node(node: ast.expr | ast.stmt, new: str) -> Edit:
    """Return the Edit that replaces a whole node."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, new


def of_name(node: ast.AST, old: str, new: str, lines: list[bytes]) -> Edit:
    """Return the Edit that replaces the name `old` of a node: a name, an attribute, a parameter, a def or a class.

    `lines` are those of the module.
    """
    match node:
        case ast.Attribute(end_lineno=int(line), end_col_offset=int(end)):
            return line, end - len(old), line, end, new
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            head = _HEAD.match(lines[node.lineno - 1], node.col_offset)
            assert head is not None
            start = head.end()
        case ast.Name(col_offset=start) | ast.arg(col_offset=start):
            pass
        case _:
            raise TypeError(f"a {type(node).__name__} has no name")
    return node.lineno, start, node.lineno, start + len(old), new


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return `text` after `edits`. One within the span of another is dropped. A new text gets the lines of its span."""
    octets = text.encode()
    starts = [0]
    for line in octets.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = [
        (starts[first - 1] + column, -(starts[last - 1] + end), new + "\n" * (last - first))
        for first, column, last, end, new in edits
    ]
    pieces, position = [], 0
    for start, end, new in sorted(spans):
        if start >= position:
            pieces += [octets[position:start], new.encode()]
            position = -end
    return b"".join([*pieces, octets[position:]]).decode()
