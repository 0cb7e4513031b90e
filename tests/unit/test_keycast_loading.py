"""What a command does not use it does not load, as a person waits for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.home_world import configured
from tests.waiting import PATIENCE_S

GATEWAY = {"aiocoap", "lakers", "zeroconf", "netifaces"}  # what only a gateway that runs needs
TERMINAL = {"questionary", "prompt_toolkit"}
BROKERS = {"aiomqtt", "paho"}
HELP = {"markdown_it", "pygments"}  # of the texts of --help
PAGE = {"aiohttp", "jinja2", "segno"}
ALL = GATEWAY | TERMINAL | BROKERS | HELP | PAGE
CODE = """
import sys
sys.argv[0] = "keycast"
from keycast import main
try:
    main()
finally:
    print("LOADED", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def loaded(folder: Path, *words: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the packages that it has loaded."""
    run = [sys.executable, "-c", CODE, *words]
    done = subprocess.run(run, capture_output=True, text=True, cwd=folder, timeout=PATIENCE_S, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, set(done.stderr.rpartition("LOADED")[2].split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    configured(tmp_path)
    (tmp_path / "passphrase").write_text("a long passphrase for it\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("gateway", "credential"), 0),
        (("gateway", "backup", "home.backup", "--passphrase-file", "passphrase"), 1),  # there is no state yet
        (("gateway", "restore", "none.backup", "--passphrase-file", "passphrase"), 1),
        (("status",), 1),
        (("group", "list"), 1),
        (("board", "pair", "lamp"), 1),
        (("log", "show"), 1),
        (("update", "status"), 1),
        (("server", "status"), 1),
        (("server", "backup", "server.backup", "--passphrase-file", "passphrase"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_loads_neither_what_runs_a_gateway_nor_what_asks(
    folder: Path, words: tuple[str, ...], code: int
) -> None:
    found, packages = loaded(folder, *words)
    assert found == code and "pydantic" in packages
    assert not packages & ALL


def test_setup_that_asks_nothing_loads_nothing_to_ask_with(folder: Path) -> None:
    """It tries what a gateway does at its start, so it loads that."""
    found, packages = loaded(folder, "setup", "--yes", "--pn", "attic", "keycast.toml")
    assert found == 0 and "attic" in (folder / "keycast.toml").read_text() and packages >= {"aiocoap", "tomlkit"}
    assert not packages & (TERMINAL | BROKERS | HELP)


SEARCHES = """
import atexit, gc, sys
sys.argv[0] = "keycast"
searches = lambda: sum(each["collections"] for each in gc.get_stats())
atexit.register(lambda: print("LEFT", len(gc.get_objects()), searches() - before, file=sys.stderr))
from keycast import main
before = searches()
main()
"""


@pytest.mark.parametrize("words", [("group", "list"), ("gateway", "run", "--config", "none.toml")])
def test_a_command_does_not_search_what_it_loads_for_garbage(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Neither while it loads, nor at its end, when Python would look at all that it still finds."""
    run = [sys.executable, "-c", SEARCHES, *words]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S, check=False)
    objects, searches = map(int, done.stderr.rpartition("LEFT")[2].split())
    assert done.returncode and ".toml" in done.stderr
    assert objects < 1000 and searches < 10  # a few before the program can say so; else more than a hundred


KEPT = """
import gc, sys
sys.argv[0] = "keycast"
searched, freeze = [], gc.freeze
gc.freeze = lambda: (searched.append(len(gc.get_objects())), freeze())
from keycast import main
from keycast.services import garbage
garbage.keep_modules()
assert not searched  # nobody has said yet that this process is the command's alone
try:
    main()
finally:
    print("KEPT", *searched, file=sys.stderr)
"""


def test_a_gateway_never_searches_its_modules_for_garbage(tmp_path: Path) -> None:
    """It keeps them out of the search that it makes when it serves; before that it has made nothing."""
    run = [sys.executable, "-c", KEPT, "gateway", "run", "--config", "none.toml"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S, check=False)
    assert "none.toml" in done.stderr and "Traceback" not in done.stderr
    (kept,) = map(int, done.stderr.rpartition("KEPT")[2].split())
    assert kept > 50_000
