"""Replace names of constants by their values, in the sources that go onto a board.

On a board a name costs heap: 7 octets in the table of names, 8 in its module's dict, 2 in each module that uses it. It
also costs a look-up each time. MicroPython's own `const()` saves that within one module. Ours are shared, so this step
does the same over all modules of a board: `numbers.RESULT_FAIL` becomes `("2")`, and an import that is no longer needed
is removed. Only spans of text are replaced: lines keep their numbers, so a traceback fits the source in the repository.

`bytes((...))` of constants becomes a literal, which stays in the flash with the code. A comparison of
`sys.implementation.name` becomes True or False, and the compiler leaves out the branch for CPython.

A constant is an integer of up to 64 bits, or a text so short that MicroPython interns it. It is bound once in its
module, at top level, to a name in capitals. Modules that hold only constants keep them, for applications that import
them; in other modules unused definitions are dropped.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from keycast.micropython_vm.board_files import dotted
from keycast.micropython_vm.edits import Edit, apply, of_node
from keycast.micropython_vm.scopes import children, nodes

_LARGE = 1 << 64  # a larger value would be held once for each use
_INTERNED = 10  # octets: MICROPY_ALLOC_PARSE_INTERN_STRING_LEN
_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*$")

Value = int | str


@dataclass
class _Module:
    tree: ast.Module
    bound: Counter[str]
    aliases: dict[str, str] = field(default_factory=dict)  # name here -> module
    borrowed: dict[str, tuple[str, str]] = field(default_factory=dict)  # name here -> (module, name there)
    constants: dict[str, Value] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # names that are still read after folding


def fold(sources: Mapping[str, str], keep: bool = False) -> dict[str, str]:
    """Return the texts of `sources`, by path such as "cpns/errors.py", with constants written out.

    `keep` leaves all definitions where they are, for tests that read them.
    """
    modules = {dotted(name): _read(text) for name, text in sources.items()}
    for module in modules.values():
        _resolve_imports(module, modules)
    while sum(_define(module, modules) for module in modules.values()):
        pass  # constants may depend on those of other modules
    edits = {name: list(_uses(module, modules)) for name, module in modules.items()}
    if not keep:
        for name, module in modules.items():
            edits[name] += _dropped(name, module, modules)
    return {name: apply(text, edits[dotted(name)]) for name, text in sources.items()}


def _read(text: str) -> _Module:
    tree = ast.parse(text)
    return _Module(tree, Counter(_bindings(tree)))


def _bindings(tree: ast.Module) -> Iterator[str]:
    """Yield each name that the module binds, in any scope, once for each binding."""
    for node in nodes(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield from names


def _resolve_imports(module: _Module, modules: Mapping[str, _Module]) -> None:
    for node in nodes(module.tree):
        if isinstance(node, ast.Import):
            module.aliases.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                here = alias.asname or alias.name
                if f"{node.module}.{alias.name}" in modules:
                    module.aliases[here] = f"{node.module}.{alias.name}"
                elif node.module in modules:
                    module.borrowed[here] = (node.module, alias.name)


def _definitions(module: _Module) -> Iterator[tuple[ast.Assign, list[tuple[str, ast.expr]]]]:
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield node, [(name, value)]
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(names) == len(values):
                if all(isinstance(target, ast.Name) for target in names):
                    yield node, list(zip([ast.unparse(target) for target in names], values, strict=True))


def _define(module: _Module, modules: Mapping[str, _Module]) -> int:
    """Find the constants whose value is known by now. Return how many were new."""
    before = len(module.constants)
    for _, pairs in _definitions(module):
        for name, expression in pairs:
            if _NAME.match(name) and module.bound[name] == 1 and name not in module.constants:
                value = _value(expression, module, modules)
                if isinstance(value, str | int) and _is_cheap(value):
                    module.constants[name] = value
    return len(module.constants) - before


def _is_cheap(value: Value) -> bool:
    return len(value.encode()) <= _INTERNED if isinstance(value, str) else abs(value) < _LARGE


def _value(expression: ast.expr, module: _Module, modules: Mapping[str, _Module]) -> object:
    """Return the value of an expression of constants and arithmetic, or None for another expression."""
    match expression:
        case ast.Constant(value=constant):
            return constant
        case ast.Name() | ast.Attribute():
            return _looked_up(expression, module, modules)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _value(operand, module, modules)
            return -value if isinstance(value, int) else None
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, module, modules), _value(right, module, modules)
            if isinstance(a, int) and isinstance(b, int):
                tree = ast.Expression(ast.BinOp(ast.Constant(a), op, ast.Constant(b)))
                return eval(compile(ast.fix_missing_locations(tree), "constant", "eval"))
    return None


def _looked_up(node: ast.expr, module: _Module, modules: Mapping[str, _Module]) -> Value | None:
    match node:
        case ast.Name(id=name) if name in module.constants:
            return module.constants[name]
        case ast.Name(id=name) if name in module.borrowed and module.bound[name] == 1:
            home, there = module.borrowed[name]
            return modules[home].constants.get(there)
        case ast.Attribute(value=ast.Name(id=alias), attr=name) if module.bound[alias] == 1:
            home = module.aliases.get(alias, "")
            return modules[home].constants.get(name) if home in modules else None
    return None


def _items(expression: ast.expr) -> list[ast.expr]:
    """Return the items of a tuple, or of a sum of tuples; none for another expression."""
    match expression:
        case ast.Tuple(elts=elements):
            return elements
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = _items(left), _items(right)
            return [*one, *other] if one and other else []
    return []


def _uses(module: _Module, modules: Mapping[str, _Module]) -> Iterator[Edit]:
    """Yield an edit for each use of a constant, and add names that are still read to `module.used`."""

    def walk(node: ast.AST) -> Iterator[Edit]:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            value = _looked_up(node, module, modules)
            if value is not None:
                yield of_node(node, f"({value!r})")
                return
            module.used.add(ast.unparse(node))
        match node:
            case ast.Compare(ops=[ast.Eq() | ast.NotEq() as op], comparators=[ast.Constant(value="micropython")]):
                if ast.unparse(node.left) == "sys.implementation.name":
                    yield of_node(node, str(isinstance(op, ast.Eq)))
                    return
            case ast.Call(func=ast.Name(id="bytes"), args=[items], keywords=[]):
                values = [_value(item, module, modules) for item in _items(items)]
                octets = [value for value in values if isinstance(value, int) and 0 <= value < 256]
                if octets and octets == values:
                    yield of_node(node, repr(bytes(octets)))
                    return
        if isinstance(node, ast.JoinedStr):  # before Python 3.12 its parts have no position
            module.used.update(ast.unparse(n) for n in nodes(node) if isinstance(n, ast.Name | ast.Attribute))
            return
        for child in children(node):
            yield from walk(child)

    return walk(module.tree)


def _dropped(own: str, module: _Module, modules: Mapping[str, _Module]) -> Iterator[Edit]:
    """Yield edits that empty definitions and imports of names that are no longer read."""
    read = set(module.used)
    for other in modules.values():
        read.update(use.rpartition(".")[2] for use in other.used if "." in use)  # through any alias
        read.update(there for here, (home, there) in other.borrowed.items() if home == own and here in other.used)
    only_constants = all(
        isinstance(node, ast.Assign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in module.tree.body
    )
    for statement, pairs in _definitions(module):
        if not only_constants and all(name in module.constants and name not in read for name, _ in pairs):
            yield of_node(statement, "")
    roots = {use.partition(".")[0] for use in module.used}
    for node in nodes(module.tree):
        if isinstance(node, ast.ImportFrom):
            left = [alias for alias in node.names if not _is_idle(alias, roots, module, modules)]
            if left != node.names:
                nothing = "" if node in module.tree.body else "pass"  # in a function it may be the only statement
                yield of_node(node, ast.unparse(ast.ImportFrom(node.module, left, 0)) if left else nothing)


def _is_idle(alias: ast.alias, roots: set[str], module: _Module, modules: Mapping[str, _Module]) -> bool:
    """Return True if an import brings a module or a constant that is no longer read by name."""
    here = alias.asname or alias.name
    if here in roots or module.bound[here] > 1:
        return False
    if here in module.borrowed:
        home, there = module.borrowed[here]
        return there in modules[home].constants
    return here in module.aliases
