"""keycast as a user installs it: the wheel, made from the sdist, in a fresh environment for each extra, elsewhere.

pip puts the wheel into an environment, of which each test gets a copy. The packages that the wheel requires with the
extra, and no others, are linked there from this checkout's, which are what pip found for `requirements.lock`: so this
needs no network.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from keycast import places
from keycast.micropython_vm import board_files
from keycast.program import WORDS
from keycast.virtual_board.loopback import broadcast_port, own_port
from tests.waiting import PATIENCE_S
from tools import PROJECT

pytestmark = pytest.mark.long
MADE_HERE = {".venv", ".git", ".cache", "build", "dist", "__pycache__", "node_modules", "keycast.egg-info"}
LIMIT_S = PATIENCE_S
DATA = {
    "keycast/on_board/": "micropython",
    "keycast/hw_configs/": "hw_configs",
    "keycast/systemd/": "packaging/systemd",
}


class Installed:
    """An environment with the wheel and some extras, and a folder to type commands in."""

    def __init__(self, folder: Path, without_extras: Path, cache: Path, extras: set[str]) -> None:
        self.environment = folder / "environment"
        self.here = folder / "here"
        self.cache = cache
        self.here.mkdir()
        shutil.copytree(without_extras, self.environment, symlinks=True, copy_function=os.link)
        self.python = self.environment / "bin" / "python"
        program = self.environment / "bin" / "keycast"
        program.unlink()  # the file is that of all environments
        shutil.copy(without_extras / "bin" / "keycast", program)
        program.write_text(program.read_text().replace(str(without_extras), str(self.environment)))
        (site,) = self.environment.glob("lib/python3*/site-packages")
        (itself,) = site.glob("keycast-*.dist-info")
        for each in needed_by(PathDistribution(itself), extras):
            for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
                (site / top).symlink_to(each.locate_file(top))

    @property
    def variables(self) -> dict[str, str]:
        """What a command finds in its environment: nothing of this checkout."""
        path = f"{self.environment / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.here), "XDG_CACHE_HOME": str(self.cache), "COLUMNS": "300"}

    def command(self, *words: str) -> list[str]:
        return [str(self.environment / "bin" / "keycast"), *words]

    def run(self, *command: object, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, with `more` variables."""
        return subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            cwd=self.here,
            env=self.variables | more,
            timeout=LIMIT_S,
        )

    def done(self, *words: str) -> str:
        """What a command prints that does what it shall."""
        result = self.run(*self.command(*words))
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def completed(self, line: str) -> list[str]:
        """What the shell's tab key makes of `line`."""
        asks = {"_KEYCAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return self.run(*self.command(), **asks).stdout.split()

    def refused(self, *words: str, **more: str) -> str:
        """The one sentence of a command that does not do it."""
        result = self.run(*self.command(*words), **more)
        assert result.returncode == 1, result.stdout + result.stderr
        assert result.stderr.startswith("keycast: ") and result.stderr.count("\n") == 1, result.stderr
        return result.stderr


def needed_by(package: Distribution, extras: set[str]) -> list[Distribution]:
    """All packages that `package` needs with `extras`, directly or not, in versions that it allows."""
    found: dict[str, Distribution] = {}
    todo = [(package, frozenset(extras))]
    seen = set(todo)
    while todo:
        each, wanted = todo.pop()
        for requirement in map(Requirement, each.requires or ()):
            if requirement.marker and not any(requirement.marker.evaluate({"extra": it}) for it in {"", *wanted}):
                continue
            other = distribution(requirement.name)
            other = found.setdefault(other.name, other)
            assert requirement.specifier.contains(other.version), f"{requirement} does not fit {other.version}"
            further = (other, frozenset(requirement.extras))
            if further not in seen:
                seen.add(further)
                todo.append(further)
    return list(found.values())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([PROJECT / "tools" / "make_dist.sh", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(made: Path) -> Path:
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel and no other package."""
    environment = tmp_path_factory.mktemp("pip") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--python",
        environment / "bin/python",
    ]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    return environment


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the user, in which the files of boards are compiled once for all environments."""
    cache = tmp_path_factory.mktemp("cache")
    if (places.CACHE / "micropython").exists():  # the VM was fetched already
        (cache / "keycast").mkdir()
        (cache / "keycast" / "micropython").symlink_to(places.CACHE / "micropython")
    return cache


@pytest.fixture
def installed(tmp_path: Path, without_extras: Path, cache: Path, request: pytest.FixtureRequest) -> Installed:
    """The environment with the extras that the test is parametrized with."""
    return Installed(tmp_path, without_extras, cache, request.param)


def with_extras(*extras: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("installed", [set(extras)], indirect=True, ids=["+".join(extras) or "no extra"])


def test_the_wheel_holds_our_packages_and_what_boards_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {path.name for path in PROJECT.iterdir() if (path / "__init__.py").is_file()} - {"tools", "tests"}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == packages
    for package in packages:
        here = {path.relative_to(PROJECT).as_posix() for path in files_below(PROJECT / package)}
        own = {name for name in names if name.startswith(f"{package}/")}
        assert {name for name in own if not name.startswith(tuple(DATA))} == here
    for data, folder in DATA.items():
        inside = {name.removeprefix(data) for name in names if name.startswith(data)}
        assert inside == {path.relative_to(PROJECT / folder).as_posix() for path in files_below(PROJECT / folder)}


def test_the_sdist_holds_everything(made: Path) -> None:
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    here = {path.relative_to(PROJECT).as_posix() for path in files_below(PROJECT)}
    assert {name for name in here if not re.match(r"\.[^/]*/|keycast(-[^/]*)?(\.toml|-state/)", name)} <= names


def files_below(folder: Path) -> list[Path]:
    """The files of a folder that are no product of anything."""
    found: list[Path] = []
    for path in folder.iterdir():
        if path.name in MADE_HERE or path.suffix in (".pyc", ".mpy") or path.name.endswith("_cache"):
            continue
        found += files_below(path) if path.is_dir() else [path]
    return found


HELP_OF_EACH_WORD = """
from keycast.program import WORDS, program
for word in WORDS:
    program([word])([word, "--help"], prog_name="keycast", standalone_mode=False)
"""


@with_extras()
def test_what_works_without_extras(installed: Installed) -> None:
    assert installed.done("--version").startswith("keycast ")
    helped = installed.run(installed.python, "-c", HELP_OF_EACH_WORD)
    assert helped.returncode == 0, helped.stderr
    assert re.findall(r"Usage: keycast (\S+)", helped.stdout) == list(WORDS)
    assert installed.completed("keycast gat") == ["gateway"]
    installed.done("gateway", "init")
    assert "state_dir" in installed.done("gateway", "settings")
    assert "keycast gateway run" in installed.refused("board", "provision", "lamp.porch", "-o", "porch.py")
    assert "-m pip install 'keycast[gateway]'" in installed.refused("setup", "--yes")
    for extras, words in {
        "gateway": ["gateway", "check"],
        "gateway,boards": ["demo"],
        "gateway,boards,ble": ["demo", "--ble"],
        "board": ["board", "flash", "--files-only"],
        "seal": ["seal", "demo"],
        "seal,gateway,boards": ["seal", "demo", "--val-board"],
    }.items():
        assert f"-m pip install 'keycast[{extras}]'" in installed.refused(*words)


@with_extras()
def test_the_hardware_that_keycast_knows(installed: Installed) -> None:
    code = "from keycast.hardware.catalogue import all_hardware; print(*all_hardware())"
    known = {path.stem for path in (PROJECT / "hw_configs").rglob("*.toml")}
    assert set(installed.run(installed.python, "-c", code).stdout.split()) == known


@with_extras("gateway")
def test_a_gateway_with_a_board(installed: Installed) -> None:
    installed.done("setup", "--yes", "--interface", "lo")
    words = ("--yes", "--interface", "lo", "--web", "this-machine", "--json")
    told = json.loads(installed.done("setup", "other.toml", *words))
    assert any("-m pip install 'keycast[web]'" in problem for problem in told["problems"])
    assert "\nWatchdogSec=" in installed.done("setup", "--yes", "--service", "show")
    path = installed.here / "keycast.toml"
    broadcast = f'["lo"]\nport = {broadcast_port()}'
    plane = f'\n[message_plane]\nlisten = ["127.0.0.1"]\nport = {own_port()}\n'
    path.write_text(path.read_text().replace('["lo"]', broadcast) + plane)
    assert "keycast.toml is right" in installed.done("gateway", "check")
    with running(installed, "gateway", "run") as started:
        assert started["gateway_id"] == "gw.home"
        installed.done("group", "create", "home/lights", "--open-to", "home")
        installed.done("board", "provision", "lamp.porch", "-o", "porch.py", "--address", "127.0.0.1")
        assert json.loads(installed.done("board", "list", "--json"))["boards"][0]["pne_id"] == "lamp.porch"
    compile((installed.here / "porch.py").read_text(), "porch.py", "exec")
    installed.done("backup", "new-key", "home.key")
    installed.done("gateway", "backup", "home.backup", "--recipient", "home.recipient")


@with_extras("gateway")
def test_a_gateway_that_wants_bluetooth_and_lacks_its_extra(installed: Installed) -> None:
    """It runs, and says what to install."""
    installed.done("gateway", "init", "--ble")
    path = installed.here / "keycast.toml"
    broadcast = f'["lo"]\nport = {broadcast_port()}'
    plane = f'\n[message_plane]\nlisten = ["127.0.0.1"]\nport = {own_port()}\n'
    path.write_text(path.read_text().replace('["auto"]', broadcast) + plane)
    for sender in ("auto", "hci", "virtual"):
        path.write_text(re.sub('sender = "[a-z]+"', f'sender = "{sender}"', path.read_text()))
        assert "keycast.toml is right" in installed.done("gateway", "check")
        with running(installed, "gateway", "run") as started:
            assert [each["interface"] for each in started["networks"] if not each["problem"]] == ["lo"]
            told = installed.run(*installed.command("radios"))
            assert told.returncode == 2 and "-m pip install 'keycast[ble]'" in told.stdout, told.stdout + told.stderr


def first_value(lines: Iterable[str]) -> Any:
    """The JSON object that comes first, in lines that do not end with it."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError(f"it ended, and said: {text}")


@contextmanager
def running(installed: Installed, *words: str) -> Iterator[dict[str, Any]]:
    """What a command that runs on says once it is ready; at the end it gets SIGTERM and must end in order."""
    with (installed.here / "log").open("w") as log:
        process = subprocess.Popen(
            installed.command(*words, "--json"),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=installed.here,
            env=installed.variables,
        )
    with process:
        try:
            yield first_value(process.stdout or ())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)
    assert process.returncode == 0, (installed.here / "log").read_text()


@with_extras("gateway", "ble", "boards")
def test_boards_with_bluetooth_only(installed: Installed) -> None:
    figures = json.loads(installed.done("demo", "--boards", "4", "--ble", "--json"))
    assert figures["excluded_could_read"] is False and figures["pull_refused"] is True
    assert "adapters" in json.loads(installed.run(*installed.command("radios", "--json")).stdout)


@with_extras("gateway", "ble")
def test_the_libraries_of_bluetooth(installed: Installed) -> None:
    """bleak, dbus-fast and Bumble come with the extra, and with nothing that it does not name."""
    code = "import bleak, bumble.controller, bumble.device, bumble.link, bumble.transport, dbus_fast.aio; print(1)"
    done = installed.run(installed.python, "-W", "error", "-c", code)
    assert done.stdout == "1\n", done.stderr


@with_extras("seal")
def test_key_servers_and_their_clients(installed: Installed) -> None:
    assert json.loads(installed.done("seal", "demo", "--json"))["rekeyed"]


@with_extras("seal", "postgres")
def test_a_key_server_that_asks_postgresql(installed: Installed) -> None:
    installed.done("kms", "init", "kms.example.org")
    nowhere = f"postgresql://127.0.0.1:{own_port()}/kms"
    assert "PostgreSQL" in installed.refused("kms", "run", KEYCAST_KMS_DATABASE=nowhere)


@with_extras("fast")
def test_arithmetic_by_gmp(installed: Installed) -> None:
    code = "from mikey_sakke.integers import wide; print(wide.__name__)"
    assert installed.run(installed.python, "-c", code).stdout == "mpz\n"


@with_extras("boards")
@pytest.mark.parametrize(("option", "listed"), [([], "manifest.py"), (["--val-client"], "manifest_val_client.py")])
def test_the_files_of_boards(installed: Installed, option: list[str], listed: str) -> None:
    installed.done("board", "files", "files", *option)
    files = installed.here / "files"
    assert (files / "board.romfs").read_bytes()[:3] == b"\xd2\xcd1"
    assert (files / "main.py").read_text() == (PROJECT / "micropython" / "main.py").read_text()
    assert {path.name for path in (files / "mpy").iterdir()} > {"main.py", "board.mpy", "cpns"}
    frozen = board_files.listed(files / "sources" / "micropython" / listed)
    bundles = {f"{name}.py" for name in board_files.BUNDLES}
    assert frozen.keys() - bundles == board_files.listed(PROJECT / "micropython" / listed).keys()
    assert "File exists" in installed.refused("board", "files", "files", *option)


@with_extras("gateway", "seal", "boards")
def test_the_demos_with_virtual_boards(installed: Installed) -> None:
    """What boards run is compiled into the user's cache; nothing is written beside the packages."""
    before = set(installed.environment.rglob("*.py"))
    assert json.loads(installed.done("demo", "--boards", "3", "--json"))["excluded_could_read"] is False
    figures = json.loads(installed.done("seal", "demo", "--val-board", "--json"))
    assert figures["val_board_ms"] > 0 and figures["val_board_wiped"] is True
    (image,) = (installed.cache / "keycast").glob("build-*/mpy/board.romfs")
    assert image.read_bytes()[:3] == b"\xd2\xcd1"
    assert list(installed.here.iterdir()) == [] and set(installed.environment.rglob("*.py")) == before
