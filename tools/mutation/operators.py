"""The mutations: each changes one place of a function, so that the function decides or does something else.

Only places that a test can notice are changed: conditions, comparisons, statements with an effect, returned booleans.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
# Calls that only report: a decision does not depend on them.
_TELLING = {"count", "debug", "info", "warning", "error", "print"}


@dataclass(frozen=True)
class Mutant:
    """One change: lines `line` to `last`, `what` was done in words, `before` the old source, `text` the new file."""

    line: int
    last: int
    what: str
    before: str
    text: str


def mutants(source: str, first: int, last: int) -> Iterator[Mutant]:
    """Yield all mutants of the statements on lines `first` to `last` of `source`, in the order of their lines."""
    octets = source.encode()
    starts = _line_starts(octets)
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if not first <= line <= last:
            continue
        for place, replacement, what in _changes(node, source):
            begin = starts[place.lineno - 1] + place.col_offset
            end = starts[(place.end_lineno or place.lineno) - 1] + (place.end_col_offset or 0)
            changed = octets[:begin] + replacement.encode() + octets[end:]
            before = " ".join(octets[begin:end].decode().split())
            yield Mutant(place.lineno, place.end_lineno or place.lineno, what, before, changed.decode())


def _line_starts(octets: bytes) -> list[int]:
    starts = [0]
    for line in octets.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _changes(node: ast.AST, source: str) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """Yield (the node to replace, its replacement, the change in words)."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield node.test, f"(not ({_text(node.test, source)}))", "condition turned around"
    elif isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        joined = word.join(f"({_text(value, source)})" for value in node.values)
        yield node, f"({joined})", f"{word.strip()} instead"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        sign = _COMPARED[type(node.ops[0])]
        changed = f"({_text(node.left, source)} {sign} {_text(node.comparators[0], source)})"
        yield node, changed, f"{sign} instead"
    elif isinstance(node, ast.Raise) and not _says_impossible(node):
        yield node, "pass", "raise left out"
    elif isinstance(node, ast.Expr) and _has_effect(node.value):
        yield node, "pass", "call left out"
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
        yield node.value, str(not node.value.value), "the other truth value"
    elif isinstance(node, (ast.Assign, ast.AugAssign)) and _is_kept(node):
        yield node, "pass", "assignment left out"
    elif isinstance(node, ast.Delete):
        yield node, "pass", "del left out"


def _text(node: ast.AST, source: str) -> str:
    return ast.get_source_segment(source, node) or ""


def _has_effect(value: ast.expr) -> bool:
    call = value.value if isinstance(value, ast.Await) else value
    if not isinstance(call, ast.Call):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name not in _TELLING


def _says_impossible(node: ast.Raise) -> bool:
    """Return True if the statement raises AssertionError, as no test can come there."""
    return isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "AssertionError"


def _is_kept(node: ast.Assign | ast.AugAssign) -> bool:
    """Return True if the assignment has an effect outside of the function: on an attribute or an entry of a table."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)
