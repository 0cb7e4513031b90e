"""Keep the texts of errors in one piece, in the bundles of a board.

Each text that is too long for the table of names costs a board 20 octets of heap, although its letters lie in the
flash. A board seldom needs one: so a bundle has one long text, and each error cuts its own out of it when it is raised.
Where an error is raised because the heap is full, texts stay as they are.
"""

import ast
from collections.abc import Iterator

from keycast.micropython_vm.edits import Edit, apply, of_node

_INTERNED = 10  # octets: MICROPY_ALLOC_PARSE_INTERN_STRING_LEN


NAME = "error_texts"  # of the variable; no module of ours has one of this name


def gather(text: str) -> str:
    """Return the text of a module whose errors cut their texts out of one, which its last line sets. Lines stay."""
    tree = ast.parse(text)
    where: dict[str, int] = {}
    whole = ""
    edits: list[Edit] = []
    for constant in _texts(tree):
        value = str(constant.value)
        if value not in where:
            where[value] = len(whole)
            whole += value
        edits.append(of_node(constant, f"{NAME}[{where[value]}:{where[value] + len(value)}]"))
    return apply(text, edits) + (f"{NAME} = {whole!r}\n" if edits else "")


def _texts(node: ast.AST, in_raise: bool = False) -> Iterator[ast.Constant]:
    match node:
        case ast.ExceptHandler(type=kind) if kind is not None and "MemoryError" in ast.unparse(kind):
            return
        case ast.JoinedStr():  # before Python 3.12 its parts have no position
            return
        case ast.Constant(value=str(value)) if in_raise and len(value) > _INTERNED and value.isascii():
            yield node
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, in_raise or isinstance(node, ast.Raise))
