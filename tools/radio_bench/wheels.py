"""Python packages for the guest: those that the gateway needs, and the wheel of this checkout on a disk of its own.

The host's pip chooses wheels for the Python of the guest, so that the guest needs neither pip nor a network.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tools import PROJECT
from tools.radio_bench.layers import layer, remove, run
from tools.radio_bench.suites import Suite

EXTRAS = ("gateway", "ble")
LOCK = PROJECT / "requirements.lock"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
_SOURCES: tuple[str, ...] = (
    "cpns",
    "suit",
    "mikey_sakke",
    "private_store",
    "message_plane",
    "http_door",
    "device_agent",
    "gateway_agent",
    "key_servers",
)
_SOURCES += ("keycast", "micropython", "hw_configs")
_PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore")


def dependencies(suite: Suite, folder: Path) -> Path:
    """Return a folder with the packages that keycast needs in the guest, in the versions of requirements.lock."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + [each for extra in EXTRAS for each in project["optional-dependencies"][extra]]
    platforms = [f"--platform={each}" for each in _PLATFORMS]
    words = [*_PIP, "--only-binary=:all:", "--implementation=cp", f"--python-version={suite.python}", *platforms]
    return layer(
        folder,
        "wheels",
        [*named, *platforms, LOCK.read_bytes()],
        lambda path: _install([*words, f"--constraint={LOCK}", *named], path),
    )


def product(folder: Path) -> Path:
    """Return a folder with the installed wheel of this checkout."""
    return layer(folder, "product", _sources(), _install_product)


def _sources() -> Iterator[str | bytes]:
    yield (PROJECT / "pyproject.toml").read_bytes()
    for room in _SOURCES:
        for path in sorted((PROJECT / room).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".mpy"):
                yield path.relative_to(PROJECT).as_posix()
                yield path.read_bytes()


def _install_product(target: Path) -> None:
    dist = target.with_name("product-half-dist")
    remove(dist)
    run([PROJECT / "tools/make_dist.sh", dist])
    [wheel] = dist.glob("*.whl")
    _install([*_PIP, "--no-deps", wheel], target)
    remove(dist)


def _install(words: list[str | Path], target: Path) -> None:
    run([*words, "--target", target])
