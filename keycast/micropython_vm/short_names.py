"""Let private names and parameters share few names, in the sources that go onto a board.

Each different name costs a board 7 octets of heap in the table of names, 2 in each module that uses it, and as plain
.mpy its text as well. A private name means something only within its module, and a parameter only within its function,
so those of different modules and functions can have the same name. They get names that each MicroPython has in its
firmware anyway, as .mpy files number these: they cost nothing.

Only names are replaced: lines keep their numbers, so a traceback fits the source in the repository. What each name was
is in the second value of `shorten`.

Kept are names that other code may use: public ones, those of the parameters that have a default or that any call names,
and private ones that stand in a text, belong to a module from elsewhere, or are used in another module.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

from keycast.micropython_vm.board_files import dotted
from keycast.micropython_vm.edits import Edit, apply, of_name, of_node

# Of the names that .mpy files number (`static_qstr_list` in MicroPython's py/makeqstrdata.py): those that are no
# built-ins, no words of the compiler, and not in _NATIVE
_FREE = (
    *("append", "bytecode", "clear", "copy", "decode", "encode", "end", "endswith", "extend", "find", "from_bytes"),
    *("get", "insert", "isalpha", "isdigit", "islower", "isspace", "isupper", "items", "join", "key", "keys", "little"),
    *("lower", "lstrip", "main", "pop", "popitem", "read", "readinto", "readline", "remove", "replace", "reverse"),
    *("rfind", "rindex", "rsplit", "rstrip", "sep", "setdefault", "sort", "split", "start", "startswith", "step"),
    *("stop", "strip", "to_bytes", "update", "upper", "values", "write"),
)
# Attributes that generators, tuples or exceptions have
_NATIVE = ("args", "close", "count", "errno", "index", "pend_throw", "send", "throw", "value")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

# Modules whose functions applications call, perhaps with the names of parameters
INTERFACES = ("device_agent.api",)


@dataclass
class _Module:
    name: str
    tree: ast.Module
    lines: list[bytes]
    edits: list[Edit] = field(default_factory=list)
    texts: dict[ast.AST, ast.JoinedStr] = field(default_factory=dict)  # node within an f-string -> the f-string
    fixed: set[ast.AST] = field(default_factory=set)  # functions whose parameters applications may name
    changed: set[ast.JoinedStr] = field(default_factory=set)
    were: dict[str, set[str]] = field(default_factory=dict)  # new name -> old ones

    def rename(self, node: ast.AST, new: str) -> None:
        """Give a node another name, in the tree and in the text."""
        attribute = next(each for each in ("id", "attr", "arg", "name") if hasattr(node, each))
        old = getattr(node, attribute)
        setattr(node, attribute, new)
        self.were.setdefault(new, set()).add(old)
        if node in self.texts:  # before Python 3.12 its parts have no position
            self.changed.add(self.texts[node])
        else:
            self.edits.append(of_name(node, old, new, self.lines))


def shorten(sources: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    """Return the texts of `sources`, by path such as "cpns/errors.py", with short names; and what these were.

    The latter is module -> new name -> old names. A new name may stand for an attribute, a function and a parameter.
    """
    modules = {dotted(name): _read(dotted(name), text) for name, text in sources.items()}
    kept, keywords = _kept(modules), _keywords(modules)
    free = [*_FREE, *_public_names(modules, kept)]
    for group in _groups(modules):
        _rename_attributes(group, kept, free)
    for module in modules.values():
        _rename_globals(module, kept, free)
        _rename_parameters(module.tree, module, frozenset(), keywords, free)
    for module in modules.values():
        module.edits += [of_node(text, ast.unparse(text)) for text in module.changed]
    texts = {name: apply(text, modules[dotted(name)].edits) for name, text in sources.items()}
    return texts, {name: {new: sorted(old) for new, old in module.were.items()} for name, module in modules.items()}


def _read(name: str, text: str) -> _Module:
    module = _Module(name, ast.parse(text), text.encode().splitlines(keepends=True))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.JoinedStr):
            for part in ast.walk(node):
                module.texts.setdefault(part, node)
    if name in INTERFACES:
        functions = (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        module.fixed.update(node for node in functions if not _is_private(node.name))
    return module


def _is_private(name: str) -> bool:
    return name.startswith("_") and name != "_" and not name.startswith("__")


def _kept(modules: Mapping[str, _Module]) -> set[str]:
    """Return the names of attributes and globals that must stay in all modules."""
    kept: set[str] = set()
    bound: set[str] = set()
    used: set[str] = set()
    for module in modules.values():
        imported = {
            alias.asname or alias.name.partition(".")[0]
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(module.tree):
            match node:
                case ast.Constant(value=str(text)):
                    kept.add(text)
                case ast.Attribute(attr=attribute) if _root(node) in imported:
                    kept.add(attribute)
                case ast.ImportFrom(names=names):
                    kept.update(alias.name for alias in names)
        bound.update(_bound_attributes(module))
        used.update(node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute))
    return kept | (used - bound)


def _root(node: ast.expr) -> str | None:
    """Return `a` of `a.b.c`, or None if it begins with no name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _public_names(modules: Mapping[str, _Module], kept: set[str]) -> list[str]:
    """Return names that a board has in its heap anyway, the most frequent first, and that can stand for others."""
    names = Counter(
        node.attr
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and not _is_private(node.attr)
    )
    unfit = kept.union(_FREE, _NATIVE, dir(builtins))
    return sorted((name for name in names if name not in unfit), key=lambda name: (-names[name], name))


def _keywords(modules: Mapping[str, _Module]) -> set[str]:
    """Return the names of parameters that calls use."""
    nodes = chain.from_iterable(ast.walk(module.tree) for module in modules.values())
    return {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}


def _bound_attributes(module: _Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from map(_name, _bindings(node))


def _bindings(scope: ast.AST) -> Iterator[ast.Name | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the nodes that bind names in the scope of a module, class or function itself; no imports or parameters."""
    for node in _own_nodes(scope):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Name(ctx=ast.Store() | ast.Del()):
                yield node


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope without those of the scopes in it, of which decorators and defaults are outside."""
    inner = [scope.body] if isinstance(scope, ast.Lambda) else scope.body if hasattr(scope, "body") else []
    todo: list[ast.AST] = list(inner)
    while todo:
        node = todo.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                todo += [each for each in [*node.args.defaults, *node.args.kw_defaults] if each]
                todo += getattr(node, "decorator_list", [])
            case ast.ClassDef():
                todo += [*node.bases, *node.keywords, *node.decorator_list]
            case _:
                todo += ast.iter_child_nodes(node)


def _name(node: ast.Name | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    return node.id if isinstance(node, ast.Name) else node.name


def _groups(modules: Mapping[str, _Module]) -> Iterable[list[_Module]]:
    """Return the modules in groups: those that use private attributes of each other, or inherit, are in one."""
    group = {name: [module] for name, module in modules.items()}
    bound = {name: set(_bound_attributes(module)) for name, module in modules.items()}

    def join(one: str, other: str) -> None:
        if group[one] is not group[other]:
            group[one] += group[other]
            for module in group[other]:
                group[module.name] = group[one]

    for name, module in modules.items():
        homes = {
            alias.asname or alias.name: node.module
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ImportFrom) and node.module in modules
            for alias in node.names
        }
        for node in ast.walk(module.tree):
            match node:
                case ast.ClassDef(bases=bases):
                    for base in bases:
                        home = homes.get(base.id) if isinstance(base, ast.Name) else None
                        if home:
                            join(name, home)
                case ast.Attribute(value=value, attr=attribute) if _is_private(attribute):
                    if not (isinstance(value, ast.Name) and value.id in ("self", "cls") and attribute in bound[name]):
                        for other in modules:
                            if attribute in bound[other]:
                                join(name, other)
    return {id(each): each for each in group.values()}.values()


def _new_names(old: Iterable[str], taken: set[str], free: list[str]) -> dict[str, str]:
    """Return a new name for each old one: the same ones in each module, as far as they are not taken."""
    more = (f"_{number}" for number in count())
    return dict(zip(old, (name for name in chain(free, more) if name not in taken), strict=False))


def _rename_attributes(group: list[_Module], kept: set[str], free: list[str]) -> None:
    names: set[str] = set()
    read: set[str] = set()  # by name within a class, outside of its functions
    for module in group:
        names.update(node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute))
        names.update(_bound_attributes(module))
        read |= _read_in_classes(module)
    old = sorted(name for name in names - kept - read if _is_private(name))
    new = _new_names(old, names | read, free)
    for module in group:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in new:
                module.rename(node, new[node.attr])
            elif isinstance(node, ast.ClassDef):
                for binding in _bindings(node):
                    if _name(binding) in new:
                        module.rename(binding, new[_name(binding)])


def _read_in_classes(module: _Module) -> set[str]:
    """Return the names that are read within classes, but outside of functions: of the class or the module."""
    return {
        each.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for each in _own_nodes(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _rename_globals(module: _Module, kept: set[str], free: list[str]) -> None:
    inner = {
        name
        for node in ast.walk(module.tree)
        if isinstance(node, _SCOPES + _COMPREHENSIONS)
        for name in _bound_in(node)
    }
    names = {_name(binding) for binding in _bindings(module.tree)}
    fixed = kept | inner | _read_in_classes(module) | set(_fixed_in(module.tree))
    old = sorted(name for name in names - fixed if _is_private(name))
    new = _new_names(old, _all_names(module.tree), free)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and node.id in new:
            module.rename(node, new[node.id])
    for binding in _bindings(module.tree):
        if not isinstance(binding, ast.Name) and binding.name in new:
            module.rename(binding, new[binding.name])


def _bound_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names that a function or a comprehension binds, or says to be those of another scope."""
    if isinstance(scope, _COMPREHENSIONS):
        yield from (n.id for each in scope.generators for n in ast.walk(each.target) if isinstance(n, ast.Name))
    elif isinstance(scope, _SCOPES):
        yield from (each.arg for each in ast.walk(scope.args) if isinstance(each, ast.arg))
        yield from (node.id for node in _bindings(scope) if isinstance(node, ast.Name))
        yield from _declared_in(scope)


def _declared_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names that a function binds otherwise than as parameters and by assignment."""
    for node in _own_nodes(scope):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
    yield from _fixed_in(scope)


def _fixed_in(scope: ast.AST) -> Iterator[str]:
    """Yield the names of a scope that `_Module.rename` cannot change everywhere."""
    for node in _own_nodes(scope):
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield from names


def _all_names(tree: ast.AST) -> set[str]:
    """Return all names of variables, of any scope, under a node."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, _SCOPES):
            names.update(_bound_in(node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
    return names


def _rename_parameters(
    node: ast.AST, module: _Module, outer: frozenset[str], keywords: set[str], free: list[str]
) -> None:
    """Rename the parameters of all functions under `node`. `outer` are the new names in the functions around it."""
    for child in ast.iter_child_nodes(node):
        new: dict[str, str] = {}
        if isinstance(child, _SCOPES) and child not in module.fixed:
            body = child.body if isinstance(child.body, list) else [child.body]
            taken = keywords.union(_declared_in(child))
            for each in chain.from_iterable(map(ast.walk, body)):
                taken.update(_bound_in(each))
            old = [each for each in _without_default(child) if each.arg not in taken]
            new = _new_names([each.arg for each in old], _all_names(child) | outer, free)
            for each in old:
                module.rename(each, new[each.arg])
            for each in chain.from_iterable(map(ast.walk, body)):
                if isinstance(each, ast.Name) and each.id in new:
                    module.rename(each, new[each.id])
        _rename_parameters(child, module, outer.union(new.values()), keywords, free)


def _without_default(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    positional = [*function.args.posonlyargs, *function.args.args]
    positional = positional[: len(positional) - len(function.args.defaults)]
    return [each for each in positional if each.arg not in ("self", "cls", "_")]
