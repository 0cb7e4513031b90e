"""Let public names that mean something within a board only become names that each MicroPython has in its firmware.

A name that the firmware does not have costs a board 7 octets in the table of names, and a table that is full becomes
twice as big: beyond 620 names by 4.5 KB in one piece. So names of attributes, functions, classes, variables of modules
and parameters that stay after `short_names.py` are written as others of the firmware, which nothing else here has: each
in all modules alike, so that whatever was one name is one name. Lines keep their numbers.

Kept are names that come from outside or go there: those that stand in a text or in an f-string, of modules, of what
MicroPython has itself, of exceptions, and those by which programs and applications know a board (`surface.py`).
"""

import ast
import builtins
import io
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from keycast.micropython_vm.board_files import START, dotted
from keycast.micropython_vm.edits import Edit, apply, of_node
from keycast.micropython_vm.scopes import bindings, imported_as, name_of, nodes
from keycast.micropython_vm.short_names import FREE
from keycast.micropython_vm.surface import identifiers, texts

# Of MicroPython's modules math, cmath, uctypes, framebuf, random, re, heapq, collections, errno, micropython, gc, sys,
# io, tls, deflate, binascii, socket, select, time, vfs, machine, _thread, platform and asyncio, of sets, texts,
# properties and complex numbers, as the ports unix and esp32 have them in 1.25 and 1.26. MicroPython looks none of them
# up at an object of ours.
NAMES = (
    *("e", "pi", "cb", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh"),
    *("degrees", "erf", "erfc", "expm1", "fabs", "fmod", "frexp", "gamma", "isclose", "isfinite", "isinf", "isnan"),
    *("ldexp", "lgamma", "log10", "log2", "modf", "radians", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "phase"),
    *("polar", "rect", "INT", "INT8", "INT16", "INT32", "INT64", "UINT", "UINT8", "UINT16", "UINT32", "UINT64", "PTR"),
    *("VOID", "LONG", "ULONG", "SHORT", "USHORT", "LONGLONG", "ULONGLONG", "ARRAY", "NATIVE", "FLOAT32", "FLOAT64"),
    *("BF_LEN", "BF_POS", "BFINT8", "BFINT16", "BFINT32", "BFUINT8", "BFUINT16", "BFUINT32", "BIG_ENDIAN"),
    *("LITTLE_ENDIAN", "addressof", "bytearray_at", "bytes_at", "sizeof", "FrameBuffer", "FrameBuffer1", "GS8"),
    *("GS2_HMSB", "GS4_HMSB", "MONO_HLSB", "MONO_HMSB", "MONO_VLSB", "MVLSB", "RGB565", "blit", "ellipse", "fill"),
    *("fill_rect", "hline", "vline", "pixel", "poly", "scroll", "choice", "getrandbits", "randint", "randrange"),
    *("seed", "uniform", "heapify", "heappop", "heappush", "appendleft", "popleft", "OrderedDict", "fromkeys"),
    *("EACCES", "EADDRINUSE", "EALREADY", "EBADF", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EEXIST"),
    *("EHOSTUNREACH", "EINPROGRESS", "EINVAL", "EIO", "EISDIR", "ENOBUFS", "ENODEV", "ENOENT", "ENOMEM", "ENOTCONN"),
    *("EOPNOTSUPP", "EPERM", "ETIMEDOUT", "errorcode", "heap_lock", "heap_unlock", "kbd_intr", "mem_info", "opt_level"),
    *("qstr_info", "stack_use", "isenabled", "SSLContext", "CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED"),
    *("MBEDTLS_VERSION", "PROTOCOL_TLS_CLIENT", "PROTOCOL_TLS_SERVER", "get_ciphers", "set_ciphers", "wrap_socket"),
    *("load_cert_chain", "load_verify_locations", "DeflateIO", "GZIP", "RAW", "ZLIB", "AUTO", "a2b_base64"),
    *("b2a_base64", "gmtime", "localtime", "mktime", "sleep_us", "ticks_add", "ticks_cpu", "ticks_us", "time_ns"),
    *("allocate_lock", "get_ident", "stack_size", "start_new_thread", "libc_ver", "python_compiler", "union"),
    *("issubset", "issuperset", "isdisjoint", "intersection", "intersection_update", "symmetric_difference"),
    *("symmetric_difference_update", "difference_update", "center", "splitlines", "getter", "setter"),
    *("deleter", "real", "imag", "POLLHUP", "POLLERR", "POLLOUT", "time_pulse_us", "mem8", "mem16", "mem32", "VfsFat"),
    *("VfsLfs2", "LockType", "locked", "acquire", "ipoll", "modify", "unregister", "version_info", "byteorder"),
    *("maxsize", "StreamReader", "StreamWriter", "open_connection", "start_server", "wait_closed", "get_extra_info"),
    *("readexactly", "new_event_loop", "get_event_loop", "run_forever", "current_task"),
    *("set_exception_handler", "get_exception_handler", "call_exception_handler", "default_exception_handler"),
    *("match", "search", "sub", "deque", "argv", "enable", "disable", "idle", "Signal", "soft_reset", "schedule"),
    *("listen", "makefile", "sendall", "settimeout", "getaddrinfo", "SOCK_RAW", "SOCK_STREAM", "AF_INET6", "IOBase"),
    *("BytesIO", "FileIO", "TextIOWrapper", "separators", "closure", "generator", "iterator"),
    *("cipher", "getpeercert", "verify_mode", "server_side", "server_hostname", "RingIO"),
    *("do_handshake_on_connect", "discard"),
)

# Names of ours that the firmware has, too: they cost nothing, and objects of MicroPython have them
NATIVE = (
    *("AF_INET", "CancelledError", "Event", "HEAD", "SOCK_DGRAM", "SOL_SOCKET", "SO_BROADCAST", "SO_REUSEADDR", "_"),
    *("add", "bind", "buffer", "calcsize", "callback", "cancel", "clock", "close", "cls", "code", "connect"),
    *("context", "count", "create_task", "data", "delete", "difference", "digest", "done", "dump", "encrypt"),
    *("event", "exp", "file", "flags", "floor", "flush", "function", "gather", "group", "head", "host", "id"),
    *("implementation", "index", "install", "line", "load", "log", "loop", "message", "mode", "module", "modules"),
    *("mount", "n", "name", "next", "on", "open", "pack", "pack_into", "package", "partition", "path", "port"),
    *("print_exception", "put", "queue_read", "r", "random", "raw", "readblocks", "reason", "recv", "register"),
    *("release", "request", "requests", "rpartition", "run", "s", "self", "send", "sendto", "set", "setblocking"),
    *("setsockopt", "sleep", "sleep_ms", "stat", "state", "stream", "t", "task", "tell", "text", "threshold"),
    *("ticks", "ticks_diff", "ticks_ms", "time", "timeout", "type", "unpack", "unpack_from", "urandom", "v", "value"),
    *("version", "wait", "wait_for", "waiting", "writeblocks"),
)

_BY_NAME = ("dict", "format", "update")  # calls that take the names of their arguments as texts


def borrow(
    sources: Mapping[str, str], stubs: Collection[str], outside: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of `sources`, by path such as "cpns/errors.py", with names of the firmware; and what these were.

    `stubs` are the paths of modules that do nothing but import public names from a bundle (`bundles.join`); these names
    stay, and what they stand for follows the bundle. `outside` are names that stay anyway.
    """
    trees = {path: ast.parse(text) for path, text in sources.items() if path != START}
    own = [tree for path, tree in trees.items() if path not in stubs]
    parts = set(chain.from_iterable(dotted(path).split(".") for path in sources))
    arguments = {node.arg for tree in own for node in nodes(tree) if isinstance(node, ast.arg)}
    kept = {*outside, *NATIVE, *FREE, *dir(builtins), *parts}
    for tree in own:
        kept.update(_from_elsewhere(tree, parts, arguments))
    uses = Counter(chain.from_iterable(map(identifiers, own)))
    # Bundles and the board's own modules are loaded in any case
    first = {name for path, tree in trees.items() if "/" not in path for name in identifiers(tree)}
    made = {name for tree in own for name in _made(tree) if not (name in kept or name.startswith("__"))}
    free = sorted((name for name in NAMES if name not in kept and name not in uses), key=len)
    ours = sorted(made, key=lambda name: (name not in first, -uses[name], name))[: len(free)]
    files = Counter(chain.from_iterable({*identifiers(tree)} for tree in own))  # a name is in each of them
    names = dict(zip(sorted(ours, key=lambda name: (-files[name], name)), free, strict=False))
    changed = dict(sources)
    for path, tree in trees.items():
        changed[path] = _stub(tree, names) if path in stubs else _renamed(sources[path], names)
    return changed, {new: old for old, new in names.items()}


def program(text: str, changed: Collection[str], borrowed: Mapping[str, str]) -> str:
    """Return a program that knows a board from inside, with the names that the board has. Lines stay.

    `changed` are the modules that have other names at their top level than their sources, so those that are in no
    bundle; `borrowed` is that of `borrow`. The program must not use such names within f-strings.
    """
    names = {old: new for new, old in borrowed.items()}
    edits = []
    for node in nodes(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module not in changed:
            aliases = [ast.alias(each.name, names.get(imported_as(each), each.asname)) for each in node.names]
            edits.append(of_node(node, ast.unparse(ast.ImportFrom(node.module, aliases, 0))))
    return _renamed(text, names, edits)


def _from_elsewhere(tree: ast.AST, parts: Collection[str], arguments: Collection[str]) -> Iterator[str]:
    """Yield the names in a module that are not its own, or that somebody sees or looks up as a text."""
    yield from texts(tree)
    foreign: set[str] = set()
    for node in nodes(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield from alias.name.split(".")
                    if alias.name.split(".")[0] not in parts:
                        foreign.add(imported_as(alias))
            case ast.ImportFrom(module=str(module), names=aliases):
                yield from module.split(".")
                if module.split(".")[0] not in parts:
                    foreign.update(map(imported_as, aliases))
                    yield from (name for alias in aliases for name in (alias.name, imported_as(alias)))
            case ast.JoinedStr():  # before Python 3.12 its parts have no position
                yield from identifiers(node)
            case ast.ClassDef(name=name, bases=[_, *_]):  # an exception, whose name is shown
                yield name
    yield from foreign
    for node in nodes(tree):
        match node:
            case ast.Attribute(attr=attribute) if _root(node) in foreign:
                yield attribute
            case ast.Call(func=function, keywords=given):
                called = _called(function)
                for each in given:
                    if each.arg and (each.arg not in arguments or called in _BY_NAME or _root(function) in foreign):
                        yield each.arg


def _made(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module makes and that are in the table of names; those of local variables are not."""
    for node in nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
        if isinstance(node, ast.Module | ast.ClassDef):
            yield from map(name_of, bindings(node))


def _root(node: ast.expr) -> str | None:
    """Return `a` of `a.b().c`, or None if it begins with no name."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else None


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _stub(tree: ast.Module, names: Mapping[str, str]) -> str:
    """Return the text of a module that imports from a bundle by the new names, and has the old ones."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                here = imported_as(alias)
                alias.name = names.get(alias.name, alias.name)
                alias.asname = here if here != alias.name else None
    return ast.unparse(tree) + "\n" if tree.body else ""


def _renamed(text: str, names: Mapping[str, str], edits: Sequence[Edit] = ()) -> str:
    """Return a text with other names, after `edits`."""
    found = list(edits)
    for each in tokenize.generate_tokens(io.StringIO(text).readline):
        if each.type == tokenize.NAME and each.string in names:
            line, start = each.start[0], len(each.line[: each.start[1]].encode())
            found.append((line, start, line, start + len(each.string), names[each.string]))
    return apply(text, found)
