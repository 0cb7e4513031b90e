"""Let private names and parameters share few names, in the sources that go onto a board.

Each different name costs a board 7 octets of heap in the table of names, 2 in each module that uses it, and as plain
.mpy its text as well. A private name means something only within its module, and a parameter only within its function,
so those of different modules and functions can have the same name. They get names that each MicroPython has in its
firmware anyway, as .mpy files number these: they cost nothing.

Only names are replaced: lines keep their numbers, so a traceback fits the source in the repository. What each name was
is in the second value of both functions.

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
from keycast.micropython_vm.scopes import (
    COMPREHENSIONS,
    FUNCTIONS,
    bindings,
    bound_in,
    children,
    declared_in,
    fixed_in,
    imported_as,
    name_of,
    nodes,
    own_nodes,
    variables,
)

# Of the names that .mpy files number (`static_qstr_list` in MicroPython's py/makeqstrdata.py): those that are no
# built-ins, no words of the compiler, and not in _NATIVE
FREE = (
    *("append", "bytecode", "clear", "copy", "decode", "encode", "end", "endswith", "extend", "find", "from_bytes"),
    *("get", "insert", "isalpha", "isdigit", "islower", "isspace", "isupper", "items", "join", "key", "keys", "little"),
    *("lower", "lstrip", "main", "pop", "popitem", "read", "readinto", "readline", "remove", "replace", "reverse"),
    *("rfind", "rindex", "rsplit", "rstrip", "sep", "setdefault", "sort", "split", "start", "startswith", "step"),
    *("stop", "strip", "to_bytes", "update", "upper", "values", "write"),
)
# Attributes that generators, tuples or exceptions have
_NATIVE = ("args", "close", "count", "errno", "index", "pend_throw", "send", "throw", "value")

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


Were = dict[str, dict[str, list[str]]]
"""Module -> new name -> what it was. One name may stand for an attribute and for parameters."""


def shorten_members(sources: Mapping[str, str]) -> tuple[dict[str, str], Were]:
    """Return the texts of `sources`, by path such as "cpns/errors.py", with short attributes and parameters."""
    modules = _read_all(sources)
    kept, keywords = _kept(modules), _keywords(modules)
    for group in _groups(modules):
        _rename_attributes(group, kept)
    for module in modules.values():
        _rename_parameters(module.tree, module, frozenset(), keywords)
    return _written(sources, modules)


def shorten_globals(sources: Mapping[str, str]) -> tuple[dict[str, str], Were]:
    """Return the texts of `sources` with short names for private functions, classes and variables of modules."""
    modules = _read_all(sources)
    kept = _kept(modules)
    for module in modules.values():
        _rename_globals(module, kept)
    return _written(sources, modules)


def _read_all(sources: Mapping[str, str]) -> dict[str, _Module]:
    return {dotted(path): _read(dotted(path), text) for path, text in sources.items()}


def _written(sources: Mapping[str, str], modules: Mapping[str, _Module]) -> tuple[dict[str, str], Were]:
    for module in modules.values():
        module.edits += [of_node(text, ast.unparse(text)) for text in module.changed]
    were = {name: {new: sorted(old) for new, old in module.were.items()} for name, module in modules.items()}
    return {path: apply(text, modules[dotted(path)].edits) for path, text in sources.items()}, were


def _read(name: str, text: str) -> _Module:
    module = _Module(name, ast.parse(text), text.encode().splitlines(keepends=True))
    for node in nodes(module.tree):
        if isinstance(node, ast.JoinedStr):
            for part in nodes(node):
                module.texts.setdefault(part, node)
    if name in INTERFACES:
        functions = (node for node in nodes(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
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
            imported_as(alias)
            for node in nodes(module.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        for node in nodes(module.tree):
            match node:
                case ast.Constant(value=str(text)):
                    kept.add(text)
                case ast.Attribute(attr=attribute) if _root(node) in imported:
                    kept.add(attribute)
                case ast.ImportFrom(names=names):
                    kept.update(alias.name for alias in names)
        bound.update(_bound_attributes(module))
        used.update(node.attr for node in nodes(module.tree) if isinstance(node, ast.Attribute))
    return kept | (used - bound)


def _root(node: ast.expr) -> str | None:
    """Return `a` of `a.b.c`, or None if it begins with no name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _public_names(modules: Iterable[_Module], kept: set[str]) -> list[str]:
    """Return names that are in the heap with these modules, the most frequent first, and that can stand for others."""
    names: Counter[str] = Counter()
    for module in modules:
        for node in nodes(module.tree):
            match node:
                case ast.Attribute(attr=name) | ast.arg(arg=name):
                    names[name] += 1
        names.update(map(name_of, bindings(module.tree)))
    unfit = kept.union(FREE, _NATIVE, dir(builtins))
    return sorted(
        (name for name in names if not (name in unfit or name.startswith("_"))), key=lambda name: (-names[name], name)
    )


def _keywords(modules: Mapping[str, _Module]) -> set[str]:
    """Return the names of parameters that calls use."""
    everything = chain.from_iterable(nodes(module.tree) for module in modules.values())
    return {node.arg for node in everything if isinstance(node, ast.keyword) and node.arg}


def _bound_attributes(module: _Module) -> Iterator[str]:
    for node in nodes(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from map(name_of, bindings(node))


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
            for node in nodes(module.tree)
            if isinstance(node, ast.ImportFrom) and node.module in modules
            for alias in node.names
        }
        for node in nodes(module.tree):
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


def _new_names(old: Iterable[str], taken: set[str], free: Iterable[str]) -> dict[str, str]:
    """Return a new name for each old one: the same ones in each module, as far as they are not taken."""
    more = (f"_{number}" for number in count())
    return dict(zip(old, (name for name in chain(free, more) if name not in taken), strict=False))


def _rename_attributes(group: list[_Module], kept: set[str]) -> None:
    names: set[str] = set()
    read: set[str] = set()  # by name within a class, outside of its functions
    for module in group:
        names.update(node.attr for node in nodes(module.tree) if isinstance(node, ast.Attribute))
        names.update(_bound_attributes(module))
        read |= _read_in_classes(module)
    old = sorted(name for name in names - kept - read if _is_private(name))
    new = _new_names(old, names | read, [*FREE, *_public_names(group, kept)])
    for module in group:
        for node in nodes(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in new:
                module.rename(node, new[node.attr])
            elif isinstance(node, ast.ClassDef):
                for binding in bindings(node):
                    if name_of(binding) in new:
                        module.rename(binding, new[name_of(binding)])


def _read_in_classes(module: _Module) -> set[str]:
    """Return the names that are read within classes, but outside of functions: of the class or the module."""
    return {
        each.id
        for node in nodes(module.tree)
        if isinstance(node, ast.ClassDef)
        for each in own_nodes(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _rename_globals(module: _Module, kept: set[str]) -> None:
    inner = {
        name for node in nodes(module.tree) if isinstance(node, FUNCTIONS + COMPREHENSIONS) for name in bound_in(node)
    }
    names = {name_of(binding) for binding in bindings(module.tree)}
    fixed = kept | inner | _read_in_classes(module) | set(fixed_in(module.tree))
    old = sorted(name for name in names - fixed if _is_private(name))
    new = _new_names(old, variables(module.tree), [*FREE, *_public_names([module], kept)])
    for node in nodes(module.tree):
        if isinstance(node, ast.Name) and node.id in new:
            module.rename(node, new[node.id])
    for binding in bindings(module.tree):
        if not isinstance(binding, ast.Name) and binding.name in new:
            module.rename(binding, new[binding.name])


def _rename_parameters(node: ast.AST, module: _Module, outer: frozenset[str], keywords: set[str]) -> None:
    """Rename the parameters of all functions under `node`. `outer` are the new names in the functions around it."""
    for child in children(node):
        new: dict[str, str] = {}
        if isinstance(child, FUNCTIONS) and child not in module.fixed:
            body = child.body if isinstance(child.body, list) else [child.body]
            taken = keywords.union(declared_in(child))
            for each in chain.from_iterable(map(nodes, body)):
                taken.update(bound_in(each))
            old = [each for each in _without_default(child) if each.arg not in taken]
            new = _new_names([each.arg for each in old], variables(child) | outer, FREE)
            for each in old:
                module.rename(each, new[each.arg])
            for each in chain.from_iterable(map(nodes, body)):
                if isinstance(each, ast.Name) and each.id in new:
                    module.rename(each, new[each.id])
        _rename_parameters(child, module, outer.union(new.values()), keywords)


def _without_default(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    positional = [*function.args.posonlyargs, *function.args.args]
    positional = positional[: len(positional) - len(function.args.defaults)]
    return [each for each in positional if each.arg not in ("self", "cls", "_")]
