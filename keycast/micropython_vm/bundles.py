"""Join modules that a board always loads together into one: a bundle.

Each module costs a board some 120 octets of heap beside what is in it: its table of names, its own name, its path. A
name that it imports takes 8 more, and 2 in its list. Within a bundle each name is there once.

A module that was joined becomes a line that imports its public names from the bundle, for applications and programs
that know it by its own name. Where other modules of the board import it, they import the bundle instead. In the bundle
names at the top level of modules become names of attributes, which are in the heap anyway; those of exceptions stay.
Everything keeps its line within its module; `join` says at which line of the bundle each module begins, so that
tracebacks can be read.

A module that sets its public variables anew is left out of bundles, as a program that imports it by its own name would
have their first values. So must be one whose variables are set from outside.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from keycast.micropython_vm.board_files import dotted
from keycast.micropython_vm.edits import Edit, apply, of_name, of_node
from keycast.micropython_vm.scopes import (
    COMPREHENSIONS,
    bindings,
    bound_in,
    imported_as,
    name_of,
    nodes,
    own_nodes,
    variables,
)
from keycast.micropython_vm.short_names import FREE


class NotJoined(Exception):
    """A module uses another one in a way that a bundle does not allow. The text says where."""


@dataclass(frozen=True)
class _Symbol:
    """A name at the top level of a module that is part of a bundle."""

    module: str
    name: str


_Meaning = _Symbol | str
"""What an imported name stands for: a symbol, or a module of a bundle."""


@dataclass
class _Module:
    name: str
    text: str
    tree: ast.Module
    variables: set[str]
    bundle: str | None = None
    imports: dict[str, _Meaning] = field(default_factory=dict)
    uses: list[tuple[ast.AST, _Symbol, frozenset[str]]] = field(default_factory=list)  # node, symbol, names around it
    statements: list[ast.Import | ast.ImportFrom | ast.Global] = field(default_factory=list)  # to be looked at
    tops: set[ast.AST] = field(default_factory=set)  # of these, the imports at the top level
    texts: dict[ast.AST, ast.JoinedStr] = field(default_factory=dict)  # node within an f-string -> the f-string
    named: list[ast.Name] = field(default_factory=list)  # uses of modules of bundles ..
    bases: set[ast.AST] = field(default_factory=set)  # .. and those of them that are followed by an attribute


def join(
    sources: Mapping[str, str], bundles: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, list[tuple[int, str]]]]:
    """Return `sources`, by path such as "cpns/errors.py", and bundles of them; and where modules begin in bundles.

    `bundles` is name -> modules that its file is for: these and what they import at their top level, unless it is in an
    earlier bundle. The second value is name -> [(first line, path)]. Raises NotJoined.
    """
    house = _House(sources, bundles)
    texts = {path: house.rewritten(dotted(path)) for path in sources}
    lines: dict[str, list[tuple[int, str]]] = {}
    for bundle, members in house.members.items():
        paths = [path for name in members for path in sources if dotted(path) == name]
        pieces, line = [], 1
        lines[bundle] = []
        for path in paths:
            lines[bundle].append((line, path))
            pieces.append(texts[path])
            line += texts[path].count("\n")
            texts[path] = house.stub(dotted(path))
        texts[f"{bundle}.py"] = "".join(pieces)
    return texts, lines


class _House:
    def __init__(self, sources: Mapping[str, str], bundles: Mapping[str, Sequence[str]]) -> None:
        self._packages = {dotted(path) for path in sources if path.endswith("/__init__.py")}
        self._modules: dict[str, _Module] = {}
        for path, text in sources.items():
            tree = ast.parse(text)
            self._modules[dotted(path)] = _Module(dotted(path), text, tree, variables(tree))
        self.members: dict[str, list[str]] = {}
        for bundle, roots in bundles.items():
            self.members[bundle] = []
            for root in roots:
                self._gather(root, bundle, [])
        self._symbols: dict[_Symbol, str] = {}  # -> its name in the bundle
        self._exceptions: set[_Symbol] = set()
        for module in self._modules.values():
            for node in nodes(module.tree):
                if isinstance(node, ast.JoinedStr):
                    module.texts.update(dict.fromkeys(nodes(node), node))
            self._read(module)
        self._outside = {bundle: self._imports_from_outside(bundle) for bundle in self.members}
        self._name_symbols()

    def _gather(self, name: str, bundle: str, path: list[str]) -> None:
        """Add a module to a bundle, after those that it imports at its top level."""
        module = self._modules.get(name)
        if module is None or module.bundle or name in self._packages or name in path or _sets_anew(module.tree):
            return
        for node in own_nodes(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._gather(alias.name, bundle, [*path, name])
            elif isinstance(node, ast.ImportFrom) and node.module:
                self._gather(node.module, bundle, [*path, name])
                for alias in node.names:
                    self._gather(f"{node.module}.{alias.name}", bundle, [*path, name])
        module.bundle = bundle
        self.members[bundle].append(name)

    # Reading a module

    def _read(self, module: _Module) -> None:
        for node in own_nodes(module.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module.imports.update(self._meanings(node))
                module.statements.append(node)
                module.tops.add(node)
        if module.bundle:
            for binding in bindings(module.tree):
                symbol = _Symbol(module.name, name_of(binding))
                self._symbols[symbol] = ""
                if isinstance(binding, ast.ClassDef) and binding.bases:  # all classes with bases count as such
                    self._exceptions.add(symbol)
        self._walk(module.tree, module, frozenset(), frozenset(), module.imports)

    def _meanings(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, _Meaning]]:
        for alias in node.names:
            where = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            if where in self._modules and self._modules[where].bundle:
                if isinstance(node, ast.Import) and "." in where:
                    raise NotJoined(f"line {node.lineno}: import {where} as `from .. import ..`")
                yield imported_as(alias), where
            elif (
                isinstance(node, ast.ImportFrom) and node.module in self._modules and self._modules[node.module].bundle
            ):
                yield imported_as(alias), _Symbol(node.module, alias.name)

    def _walk(
        self,
        scope: ast.AST,
        module: _Module,
        around: frozenset[str],
        here: frozenset[str],
        imports: dict[str, _Meaning],
    ) -> None:
        """Note the uses of symbols in a scope. `around` are names of functions, `here` those of a class itself."""
        for node in own_nodes(scope):
            match node:
                case ast.Name(id=name) if name not in around | here:
                    meaning = imports.get(name) or _Symbol(module.name, name)
                    if isinstance(meaning, str):
                        module.named.append(node)
                    elif name in imports or meaning in self._symbols:
                        module.uses.append((node, meaning, around | here))
                case ast.Attribute(value=ast.Name(id=name) as base, attr=attribute) if name not in around | here:
                    if isinstance(where := imports.get(name), str):
                        module.bases.add(base)
                        module.uses.append((node, _Symbol(where, attribute), around | here))
                case ast.Global():
                    module.statements.append(node)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    if not isinstance(node, ast.Lambda) and scope is module.tree and module.bundle:
                        module.uses.append((node, _Symbol(module.name, node.name), frozenset()))
                    self._walk_function(node, module, around, imports)
                case ast.ClassDef():
                    if scope is module.tree and module.bundle:
                        module.uses.append((node, _Symbol(module.name, node.name), frozenset()))
                    self._walk(node, module, around, frozenset(map(name_of, bindings(node))), imports)
                case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                    self._walk_comprehension(node, module, around, imports)

    def _walk_function(
        self, function: ast.AST, module: _Module, around: frozenset[str], imports: dict[str, _Meaning]
    ) -> None:
        hidden = set(bound_in(function))
        own = {name: meaning for name, meaning in imports.items() if name not in hidden}
        for node in own_nodes(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                own.update(self._meanings(node))
                module.statements.append(node)
        shared = {name for node in own_nodes(function) if isinstance(node, ast.Global) for name in node.names}
        bound = {name for name in hidden if name not in shared and name not in own}
        self._walk(function, module, (around - own.keys()) | bound, frozenset(), own)

    def _walk_comprehension(
        self, node: ast.AST, module: _Module, around: frozenset[str], imports: dict[str, _Meaning]
    ) -> None:
        assert isinstance(node, COMPREHENSIONS)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for number, each in enumerate(node.generators):
            parts += [*each.ifs, each.target] + ([each.iter] if number else [])
        inner = ast.Module([ast.Expr(part) for part in parts], [])
        self._walk(inner, module, around | set(bound_in(node)), frozenset(), imports)

    # Names in bundles

    def _imports_from_outside(self, bundle: str) -> dict[str, tuple[str, str]]:
        """Return what a bundle imports from elsewhere at its top level: name -> (import, first module with it)."""
        found: dict[str, tuple[str, str]] = {}
        for name in self.members[bundle]:
            module = self._modules[name]
            for node in own_nodes(module.tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        here = imported_as(alias)
                        if here in module.imports:
                            continue
                        first, where = found.setdefault(here, (_one(node, alias), name))
                        if first != _one(node, alias) or _Symbol(name, here) in self._symbols:
                            raise NotJoined(f"{here} is something else in {name} than in {where}")
        return found

    def _name_symbols(self) -> None:
        """Choose names that are unique in all bundles, and not hidden where they are used.

        They are names of attributes, which are in the heap anyway. Exceptions keep their names, as these are shown.
        """
        members = [module for module in self._modules.values() if module.bundle]
        hidden: dict[_Symbol, set[str]] = {}
        taken = {*self.members, *dir(builtins)}
        attributes: Counter[str] = Counter(FREE)
        for module in members:
            taken |= module.variables
            attributes.update(node.attr for node in nodes(module.tree) if isinstance(node, ast.Attribute))
            for _, symbol, around in module.uses:
                hidden.setdefault(symbol, set()).update(around)
        free = [name for name, _ in attributes.most_common() if name not in taken and not name.startswith("_")]
        for symbol in self._symbols:
            name = f"{symbol.module.replace('.', '_')}_{symbol.name}"
            if symbol in self._exceptions:
                name = symbol.name
            elif fit := [each for each in free if each not in hidden.get(symbol, ())]:
                name = fit[0]
                free.remove(name)
            self._symbols[symbol] = name

    def _name(self, symbol: _Symbol, module: _Module) -> str:
        if symbol not in self._symbols:
            raise NotJoined(f"{module.name} uses {symbol.module}.{symbol.name}, which is not defined there")
        return self._symbols[symbol]

    # Writing

    def rewritten(self, name: str) -> str:
        """Return the text of a module with the names of the bundles."""
        module = self._modules[name]
        edits: list[Edit] = []
        lines = module.text.encode().splitlines(keepends=True)
        replaced: dict[ast.AST, ast.expr] = {}
        for node, symbol, _ in module.uses:
            new = self._name(symbol, module)
            if isinstance(node, ast.Attribute):
                assert isinstance(node.value, ast.Name)
                if module.bundle == self._modules[symbol.module].bundle:
                    if isinstance(node.ctx, ast.Store) and module.bundle:
                        raise NotJoined(
                            f"{name}, line {node.lineno}: {symbol.module}.{symbol.name} is set from outside"
                        )
                else:
                    new = f"{self._modules[symbol.module].bundle}.{new}"
            elif isinstance(node, ast.Name):
                new = self._local_name(symbol, node.id, module)
            if node in module.texts:
                assert isinstance(node, ast.expr)
                replaced[node] = ast.parse(new, mode="eval").body
            elif isinstance(node, ast.Attribute | ast.Name):
                edits.append(of_node(node, new))
            elif new != symbol.name:
                edits.append(of_name(node, symbol.name, new, lines))
        for text in {module.texts[node] for node in replaced}:
            edits.append(of_node(text, ast.unparse(_Replacing(replaced).visit(text))))
        for node in module.named:
            if node not in module.bases:
                raise NotJoined(f"{name}, line {node.lineno}: {node.id} is used otherwise than for one of its names")
        seen = set()
        for node in module.statements:
            if isinstance(node, ast.Global):
                renamed = [self._symbols.get(_Symbol(module.name, each), each) for each in node.names]
                edits.append(of_node(node, f"global {', '.join(renamed)}"))
            elif node not in seen:
                seen.add(node)
                top = any(node is each for each in module.tree.body)
                edits.append(of_node(node, self._import(node, module) or ("" if top else "pass")))
        return apply(module.text, edits)

    def _local_name(self, symbol: _Symbol, here: str, module: _Module) -> str:
        """Return the name of a symbol in a module that knows it as `here`."""
        name = self._name(symbol, module)
        return here if not module.bundle and name in module.variables else name

    def _import(self, node: ast.Import | ast.ImportFrom, module: _Module) -> str:
        """Return the statement for an import in a module."""
        meanings = dict(self._meanings(node))
        outside = self._outside.get(module.bundle or "", {})
        parts = []
        for alias in node.names:
            here = imported_as(alias)
            meaning = meanings.get(here)
            if meaning is None:
                _, first = outside.get(here, ("", module.name))
                if node not in module.tops or first == module.name:
                    parts.append(_one(node, alias))
                continue
            home = meaning.module if isinstance(meaning, _Symbol) else meaning
            bundle = self._modules[home].bundle
            if bundle == module.bundle:
                continue
            if isinstance(meaning, str):
                parts.append(f"import {bundle}")
            else:
                new = self._name(meaning, module)
                local = self._local_name(meaning, here, module)
                parts.append(f"from {bundle} import {new}" + (f" as {local}" if local != new else ""))
        return "; ".join(dict.fromkeys(parts))

    def stub(self, name: str) -> str:
        """Return the text of a module that is in a bundle: it imports its public names from there."""
        names = sorted((symbol.name, new) for symbol, new in self._symbols.items() if symbol.module == name)
        imported = [old if old == new else f"{new} as {old}" for old, new in names if not old.startswith("_")]
        return f"from {self._modules[name].bundle} import {', '.join(imported)}\n" if imported else ""


class _Replacing(ast.NodeTransformer):
    def __init__(self, nodes: dict[ast.AST, ast.expr]) -> None:
        self._nodes = nodes

    def visit(self, node: ast.AST) -> ast.AST:
        return self._nodes.get(node) or self.generic_visit(node)


def _sets_anew(tree: ast.Module) -> bool:
    """Return True if a function of a module sets a public variable of it."""
    names = (name for node in nodes(tree) if isinstance(node, ast.Global) for name in node.names)
    return any(not name.startswith("_") for name in names)


def _one(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """Return the statement that imports one name of a statement."""
    return ast.unparse(ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0))
