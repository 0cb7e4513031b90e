"""The import arrows between the rooms of the house, and the limits of what a room may import (docs/house.md)."""

import ast
import gc
import sys
from functools import cache
from pathlib import Path

import pytest

from keycast.micropython_vm import board_files
from tools import board_manifest

PROJECT = Path(__file__).resolve().parents[2]

# Which of our packages each folder may import, besides itself.
ARROWS = {
    "cpns": set(),
    "suit": {"cpns"},
    "mikey_sakke": set(),
    "private_store": set(),
    "message_plane": {"cpns", "private_store"},
    "http_door": {"message_plane", "private_store"},
    "device_agent": {"cpns", "mikey_sakke", "suit"},
    "micropython": {"cpns", "device_agent", "suit"},
    "gateway_agent": {"cpns", "http_door", "mikey_sakke", "message_plane", "private_store", "suit"},
    "key_servers": {"cpns", "http_door", "mikey_sakke", "message_plane", "private_store"},
}
ARROWS["keycast"] = set(ARROWS) - {"micropython"}
EVERYTHING = {*ARROWS, "tools", "tests"}
ROOMS = {**ARROWS, "tools": EVERYTHING - {"tests"}, "tests": EVERYTHING}

# What portable code may import: modules of MicroPython's ports on ESP32 and unix, under the names both Pythons share.
PORTABLE = {"cpns", "mikey_sakke", "device_agent", "suit"}
SHARED_MODULES = {"array", "asyncio", "binascii", "collections", "errno", "gc", "hashlib", "io", "json", "os", "random"}
SHARED_MODULES |= {"select", "socket", "struct", "sys", "time"}
# Names of one Python only: allowed where the import is guarded by `try` or by a test of which Python this is.
ONE_SIDED_MODULES = {"cryptolib", "micropython", "uctypes", "hmac", "secrets", "cryptography", "gmpy2"}
# The Linux ends' share of the portable packages.
CPYTHON_ONLY = (
    "cpns/in_words.py",
    "cpns/name_rule.py",
    "cpns/uplink_form.py",
    "cpns/xml_form.py",
    "device_agent/host/",
    "suit/build.py",
    "suit/coded.py",
    "suit/file.py",
    "suit/image.py",
    "suit/show.py",
)
CPYTHON_ONLY += ("mikey_sakke/group_configuration.py", "mikey_sakke/https.py", "mikey_sakke/kms_")

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
LONGEST_MODULE = 600


def sources():
    for room in ROOMS:
        yield from sorted((PROJECT / room).rglob("*.py"))


def relative(path):
    return path.relative_to(PROJECT).as_posix()


def imports(tree):
    """(top-level name, node) of every import of a module, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node
        elif isinstance(node, ast.ImportFrom):
            yield ("." if node.level else (node.module or "").partition(".")[0]), node


def guarded(tree):
    """The nodes that stand below a `try` or an `if`: alternatives for the two Pythons."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Try, ast.If)):
            yield from ast.walk(node)


@cache
def trees():
    """Every source file with its tree, read when the first test needs them, as Python 3.11 reads it."""
    gc.disable()  # it would look again and again at a million nodes, of which none is garbage
    try:
        return {path: ast.parse(path.read_text(), feature_version=(3, 11)) for path in sources()}
    finally:
        gc.freeze()
        gc.enable()


def none_of(offenders):
    """Fail with all `offenders` that there are, one a line."""
    if found := list(offenders):
        pytest.fail("\n".join(found), pytrace=False)


def place(path, node):
    return f"{relative(path)}, line {node.lineno}"


def test_imports_follow_the_arrows():
    none_of(against_the_arrows())


def against_the_arrows():
    for path, tree in trees().items():
        room = relative(path).partition("/")[0]
        for name, node in imports(tree):
            if name == ".":
                yield f"{place(path, node)}: relative import; write the full name"
            # micropython/ is no package: the name means MicroPython's own module there and everywhere else
            elif name in ROOMS and name not in (room, "micropython") and name not in ROOMS[room]:
                yield f"{place(path, node)}: {room} may not import {name}"


# What a room inside of `gateway_agent` may import of the others in there; rooms that are not named may import all.
GATEWAY_ARROWS = {
    "core": ("core", "store", "config.section"),
    "radios": ("radios", "core.ports", "config.section", "net", "repeating", "errors"),
}


def test_the_core_of_the_gateway_knows_no_radio_and_a_radio_nothing_of_keys():
    none_of(against_the_arrows_of_the_gateway())


def against_the_arrows_of_the_gateway():
    for path, tree in trees().items():
        folder, room, *_ = relative(path).split("/")
        for node in ast.walk(tree) if folder == "gateway_agent" and room in GATEWAY_ARROWS else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway_agent."):
                parts = node.module.split(".")[1:]
                if not {".".join(parts[:length]) for length in (1, 2)} & set(GATEWAY_ARROWS[room]):
                    yield f"{place(path, node)}: {room} may not import {'.'.join(parts)}"


SERVERS = {"cms", "cpns_server", "gms", "kms"}


def test_no_server_needs_another_one():
    """What several of them need, the HTTP door and the database, has a room of its own."""
    none_of(servers_that_need_another_one())


def servers_that_need_another_one():
    for path, tree in trees().items():
        room, own = relative(path).split("/")[:2]
        for node in ast.walk(tree) if room == "key_servers" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("key_servers"):
                below = (node.module or "").split(".")[1:2] or [alias.name for alias in node.names]
                if others := SERVERS.intersection(below) - {own}:
                    yield f"{place(path, node)}: {own} may not import {', '.join(sorted(others))}"


def test_portable_code_imports_what_both_pythons_have():
    none_of(imports_of_one_python_only())


def imports_of_one_python_only():
    for path, tree in trees().items():
        if relative(path).partition("/")[0] not in PORTABLE or relative(path).startswith(CPYTHON_ONLY):
            continue
        alternatives = set(guarded(tree))
        for name, node in imports(tree):
            if name in ONE_SIDED_MODULES:
                if node not in alternatives:
                    yield f"{place(path, node)}: {name} exists on one Python only and is imported unguarded"
            elif name not in SHARED_MODULES | PORTABLE:
                yield f"{place(path, node)}: {name} is not in both Pythons"


def test_board_code_imports_what_a_board_has():
    none_of(imports_that_no_board_has())


def imports_that_no_board_has():
    own = {path.stem for path in (PROJECT / "micropython").glob("*.py")}
    board = {"app", "bluetooth", "cryptolib", "esp32", "machine", "micropython", "network", "uctypes", "vfs"}
    allowed = SHARED_MODULES | ARROWS["micropython"] | own | board
    for path, tree in trees().items():
        if path.parent == PROJECT / "micropython":
            for name, node in imports(tree):
                if name not in allowed:
                    yield f"{place(path, node)}: no board has {name}"


def test_the_manifest_lists_what_a_board_imports():
    missing = "run `make manifest` and look at what changed"
    assert board_files.listed() == board_manifest.needed(), missing
    for manifest, modules in board_manifest.OPTIONS.items():
        assert board_files.listed(manifest) == board_manifest.needed(options=modules), missing


def test_the_micropython_folder_is_no_package():
    """An `__init__.py` there would hide MicroPython's own `micropython` module."""
    assert not (PROJECT / "micropython" / "__init__.py").exists()


def test_rooms_and_files_are_named_for_what_they_hold():
    none_of(
        f"{relative(path)} says nothing about what it holds"
        for room in ROOMS
        for path in (PROJECT / room).rglob("*")
        if "__pycache__" not in path.parts and (path.is_dir() or path.suffix == ".py")
        if BANNED_NAMES.intersection(path.stem.lower().strip("_").split("_"))
    )


def test_no_module_is_longer_than_a_reader_can_hold():
    lengths = {path: len(path.read_text().splitlines()) for path in trees()}
    none_of(f"{relative(path)} has {lines} lines" for path, lines in lengths.items() if lines > LONGEST_MODULE)


def test_python_3_11_is_enough():
    """Nothing needs syntax that is newer than the oldest Python we promise."""
    assert sys.version_info >= (3, 11)
    assert trees()
