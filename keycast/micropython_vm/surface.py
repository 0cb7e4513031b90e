"""The names by which programs and applications know the files of a board. They stay as they are on each board.

Programs come over the cable, and may be of another version than the files: so of each module that one of them imports,
all public names stay. An application knows the modules in APPLICATIONS. Modules that stand in for hardware have the
names of MicroPython's own, and START may be of another version than the modules of a slot that it starts.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from keycast.micropython_vm.board_files import START, dotted
from keycast.micropython_vm.scopes import nodes

APPLICATIONS = ("cpns.errors", "device_agent.api")
_ROOMS = Path(__file__).parents[1]
PROGRAMS = _ROOMS / "board" / "on_board"
STAND_INS = (_ROOMS / "virtual_board" / "on_vm", _ROOMS / "micropython_vm" / "on_vm")


def knowing() -> dict[Path, str]:
    """Return the texts of what knows a board's files by name: the programs, and what stands in for hardware."""
    return {path: path.read_text() for folder in (PROGRAMS, *STAND_INS) for path in sorted(folder.glob("*.py"))}


def names(sources: Mapping[str, str], known_to: Mapping[Path, str]) -> set[str]:
    """Return the names that must stay in `sources`, the texts of a board's files by path, such as "cpns/errors.py".

    `known_to` is what `knowing` returned.
    """
    programs = [ast.parse(text) for path, text in known_to.items() if path.parent == PROGRAMS]
    stand_ins = [ast.parse(text) for path, text in known_to.items() if path.parent != PROGRAMS]
    found: set[str] = set()
    for tree in (*programs, *stand_ins, ast.parse(sources.get(START, ""))):
        found.update(identifiers(tree), texts(tree))
    interfaces = {*APPLICATIONS}.union(*map(_imported, programs))
    for path, text in sources.items():
        if dotted(path) in interfaces:
            found.update(name for name in _made(ast.parse(text)) if not name.startswith("_"))
    return found


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield all names in a tree, of whatever kind; of modules, also the parts of a dotted name."""
    for node in nodes(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.Global(names=several) | ast.Nonlocal(names=several):
                yield from several
            case ast.alias(name=name, asname=other):
                yield from name.split(".")
                if other:
                    yield other
            case ast.ImportFrom(module=str(name)):
                yield from name.split(".")


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in a tree."""
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _imported(tree: ast.AST) -> set[str]:
    """Return the modules that a program imports, and whatever else it imports from a module."""
    found: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _made(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module makes: functions, classes, parameters, attributes, and variables of any scope."""
    for node in nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
