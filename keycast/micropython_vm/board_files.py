"""The files of a board, which `micropython/manifest.py` lists.

The manifest is in the format of MicroPython's firmware build, so that one list serves to freeze the files into an
image, to copy them onto a board one by one, and to fill a virtual board. `make manifest` writes it. The files that a
board needs to be a VAL client are in a manifest of their own.
"""

from pathlib import Path
from typing import Any

from keycast.places import BOARD_FILES, SITE

FOLDER = BOARD_FILES
FOLDER_IN_SOURCES = "micropython"
MANIFEST = FOLDER / "manifest.py"
VAL_CLIENT_MANIFEST = FOLDER / "manifest_val_client.py"
FIRMWARE = FOLDER / "firmware"
"""Board definitions for MicroPython's firmware build (docs/firmware.md)."""

START = "main.py"
PACKAGES = ("cpns", "suit", "mikey_sakke", "device_agent")
# The modules that a board always loads are joined (`bundles.py`): before the radio's memory is held back, and after;
# those that a board with Bluetooth loads, and those that a board with an end-to-end group loads
BUNDLES = {
    "pne_start": (
        *("wifi", "nvs_store", "radio_memory"),
        *("device_agent.key_store", "device_agent.provisioning"),
    ),
    "pne_agent": (
        *("device_agent.api", "device_agent.clock", "device_agent.links.udp", "device_agent.update.service"),
        *("application", "watch"),
    ),
    "pne_ble": ("device_agent.adverts", "device_agent.links.gatt", "device_agent.reports"),
    "pne_end_to_end": ("device_agent.end_to_end.delivery", "device_agent.end_to_end.server"),
}
LEVEL = 2  # of optimisation: `assert` dropped, line numbers kept


def listed(manifest: Path = MANIFEST) -> dict[str, Path]:
    """Return the files that a manifest names, path on the board -> source.

    Raises FileNotFoundError if a source is missing.
    """
    files: dict[str, Path] = {}

    def add(base: Path, name: str) -> None:
        source = base / name
        if not source.is_file():
            raise FileNotFoundError(f"{manifest} names {source}, which does not exist; run `make manifest`")
        files[name] = source

    def module(name: str, base_path: str = ".", opt: int = LEVEL) -> None:
        add((manifest.parent / base_path).resolve(), name)

    def package(name: str, files: tuple[str, ...], base_path: str = ".", opt: int = LEVEL) -> None:
        # Once installed, our packages are where Python finds them, not where the manifest has the sources.
        base = SITE if manifest.parent == FOLDER else (manifest.parent / base_path).resolve()
        for file in files:
            add(base, f"{name}/{file}")

    def include(name: str) -> None:
        files.update(listed(manifest.parent / name))

    scope: dict[str, Any] = {"module": module, "package": package, "include": include}
    exec(compile(manifest.read_text(), str(manifest), "exec"), scope)
    return files


def definitions(manifest: Path = MANIFEST) -> dict[str, Path]:
    """Return the files of the board definitions for the boards of `manifest`, path among sources -> source."""
    wanted = {MANIFEST.name, manifest.name}
    files = [path for path in sorted(FIRMWARE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return {
        f"{FOLDER_IN_SOURCES}/{path.relative_to(FOLDER).as_posix()}": path
        for path in files
        if path.suffix != ".py" or path.name in wanted
    }


def dotted(name: str) -> str:
    """Return the name of the module at a path: "cpns.errors" for "cpns/errors.py"."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def in_sources(name: str) -> str:
    """Return the place of a board's file among sources, as in a manifest: "micropython/board.py" for "board.py"."""
    return name if "/" in name else f"{FOLDER_IN_SOURCES}/{name}"
