"""The places in the code that implement a decision: the functions whose text names its id."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = (
    "cpns",
    "suit",
    "mikey_sakke",
    "private_store",
    "message_plane",
    "http_door",
    "device_agent",
    "micropython",
    "gateway_agent",
    "key_servers",
    "keycast",
    "tools",
)

ID = re.compile(r"SEC-\d\d")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Site:
    """One function: `file` relative to the project, dotted `name`, first line (of its decorators), last line."""

    file: str
    name: str
    first: int
    last: int


def of(project: Path, ids: set[str]) -> list[Site]:
    """Return the functions that name one of `ids`, in the order of files and lines.

    If no function of a file names one, the class or module that does stands for all of its functions.
    """
    return [site for path in _sources(project) for site in _in_file(project, path, ids)]


def named(project: Path, place: str) -> list[Site]:
    """Return the functions of a place: `file.py`, or `file.py::name` for one function or one class.

    Raises ValueError if there is none.
    """
    file, _, wanted = place.partition("::")
    path = project / file
    if not path.is_file():
        raise ValueError(f"there is no file {file}")
    found = [
        _site(file, name, function) for name, function in _functions(_tree(path)) if not wanted or _is_in(name, wanted)
    ]
    if not found:
        raise ValueError(f"{file} has no function {wanted}" if wanted else f"{file} has no function")
    return found


def scopes(project: Path, ids: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (file, dotted name) of each innermost function or class that names one of `ids`; "" is the module."""
    for path in _sources(project):
        if ids & _ids_in(path):
            for scope in _scopes_naming(ids, path):
                yield path.relative_to(project).as_posix(), scope


def _sources(project: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((project / package).rglob("*.py"))


def _in_file(project: Path, path: Path, ids: set[str]) -> Iterator[Site]:
    if not ids & _ids_in(path):
        return
    functions = dict(_functions(_tree(path)))
    named_scopes = _scopes_naming(ids, path)
    narrow = [scope for scope in named_scopes if any(_is_in(scope, name) for name in functions)] or named_scopes
    for name, function in functions.items():
        if any(not scope or _is_in(name, scope) or _is_in(scope, name) for scope in narrow):
            yield _site(path.relative_to(project).as_posix(), name, function)


def _site(file: str, name: str, function: _Function) -> Site:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return Site(file, name, first, function.end_lineno or function.lineno)


def _scopes_naming(ids: set[str], path: Path) -> list[str]:
    """Return the dotted names of the innermost scopes with a line that names one of `ids`, each once, in order."""
    around = [(name, node.lineno, node.end_lineno or 0) for name, node in _scopes(_tree(path))]
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    naming = [number for number, line in lines if ids.intersection(ID.findall(line))]
    return list(dict.fromkeys(_innermost(around, line) for line in naming))


def forget_files() -> None:
    """Free what was read of files and kept for the next call: the trees of hundreds are millions of objects."""
    _ids_in_version.cache_clear()
    _tree_of_version.cache_clear()


def _ids_in(path: Path) -> frozenset[str]:
    return _ids_in_version(path, path.stat().st_mtime_ns)


def _tree(path: Path) -> ast.Module:
    return _tree_of_version(path, path.stat().st_mtime_ns)


@cache
def _ids_in_version(path: Path, changed_ns: int) -> frozenset[str]:
    return frozenset(ID.findall(path.read_text(encoding="utf-8")))


@cache
def _tree_of_version(path: Path, changed_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_in(name: str, scope: str) -> bool:
    return name == scope or name.startswith(f"{scope}.")


def _innermost(scopes: list[tuple[str, int, int]], line: int) -> str:
    """Return the dotted name of the innermost class or function around `line`; "" is the module."""
    around = [(first, name) for name, first, last in scopes if first <= line <= last]
    return max(around)[1] if around else ""


def _scopes(tree: ast.AST, above: str = "") -> Iterator[tuple[str, _Function | ast.ClassDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{above}{node.name}"
            yield name, node
            yield from _scopes(node, f"{name}.")
        elif not isinstance(node, ast.expr):  # no expression holds a definition
            yield from _scopes(node, above)


def _functions(tree: ast.AST) -> Iterator[tuple[str, _Function]]:
    """Yield functions and methods. A function inside another one belongs to the outer one."""
    outer: list[str] = []
    for name, node in _scopes(tree):
        if isinstance(node, ast.ClassDef) or any(name.startswith(f"{function}.") for function in outer):
            continue
        outer.append(name)
        yield name, node
