"""Scopes and names in the syntax tree of a module.

The tree may get other names while it is walked, and no other nodes.
"""

import ast
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TypeVar

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

Binding = ast.Name | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Found = TypeVar("_Found")


def _once(find: Callable[[ast.AST], Iterator[_Found]]) -> Callable[[ast.AST], tuple[_Found, ...]]:
    """Keep what `find` yields of a node at the node: each function is asked for again and again."""

    @wraps(find)
    def found(node: ast.AST) -> tuple[_Found, ...]:
        known: tuple[_Found, ...] | None = node.__dict__.get(find.__name__)
        if known is None:
            known = node.__dict__[find.__name__] = tuple(find(node))
        return known

    return found


@_once
def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes under it, in the order of `ast.walk`."""
    found = [tree]
    for node in found:
        yield node
        found += children(node)


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly under a node."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


@_once
def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module, class or function without those of the scopes in it and of dead branches.

    Decorators, defaults and base classes are evaluated outside of their function or class.
    """
    body = getattr(scope, "body", [])
    todo: list[ast.AST] = [*body] if isinstance(body, list) else [body]
    while todo:
        node = todo.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                todo += [each for each in (*node.args.defaults, *node.args.kw_defaults) if each]
                todo += getattr(node, "decorator_list", [])
            case ast.ClassDef():
                todo += [*node.bases, *node.keywords, *node.decorator_list]
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                todo.append(node.generators[0].iter)
            case ast.If(test=ast.Constant(value=bool(true))):
                todo += node.body if true else node.orelse
            case _:
                todo += children(node)


@_once
def bindings(scope: ast.AST) -> Iterator[Binding]:
    """Yield the nodes that bind names in a scope itself, except imports, parameters and handlers of exceptions."""
    for node in own_nodes(scope):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Name(ctx=ast.Store() | ast.Del()):
                yield node


def name_of(binding: Binding) -> str:
    return binding.id if isinstance(binding, ast.Name) else binding.name


def bound_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names that a function or a comprehension binds, or says to be those of another scope; else none."""
    if isinstance(scope, COMPREHENSIONS):
        yield from (n.id for each in scope.generators for n in nodes(each.target) if isinstance(n, ast.Name))
    elif isinstance(scope, FUNCTIONS):
        yield from (each.arg for each in nodes(scope.args) if isinstance(each, ast.arg))
        yield from (node.id for node in bindings(scope) if isinstance(node, ast.Name))
        yield from declared_in(scope)


def declared_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names that a scope binds otherwise than as parameters and by assignment."""
    yield from (node.name for node in bindings(scope) if not isinstance(node, ast.Name))
    yield from fixed_in(scope)


@_once
def fixed_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names that a scope binds, or says to be those of another scope, in statements that are no bindings."""
    for node in own_nodes(scope):
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from map(imported_as, aliases)
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield from names


def imported_as(alias: ast.alias) -> str:
    """Return the name that an import binds."""
    return alias.asname or alias.name.partition(".")[0]


def variables(tree: ast.AST) -> set[str]:
    """Return the names of all variables under a node, of any scope; a method is none."""
    names: set[str] = set()
    for node in nodes(tree):
        match node:
            case ast.Name(id=name):
                names.add(name)
            case ast.Module() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                names.update(declared_in(node))
                names.update(bound_in(node))
    return names
