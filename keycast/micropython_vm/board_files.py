"""Which files make a board: what `micropython/manifest.py` lists.

The manifest is in the format of MicroPython's firmware build, so the same list freezes the files into an image,
flashes them one by one, and fills a virtual board. `make manifest` writes it. What a board needs that is a VAL client
stands in a manifest of its own.
"""

from pathlib import Path
from typing import Any

from keycast.places import BOARD_FILES, SITE

FOLDER = BOARD_FILES
FOLDER_IN_SOURCES = "micropython"
MANIFEST = FOLDER / "manifest.py"
VAL_CLIENT_MANIFEST = FOLDER / "manifest_val_client.py"
START = "main.py"
PACKAGES = ("cpns", "mikey_sakke", "device_agent")
LEVEL = 2  # of optimisation: `assert` dropped, line numbers kept


def listed(manifest: Path = MANIFEST) -> dict[str, Path]:
    """What the manifest names: path on the board -> source. Raises FileNotFoundError for a source that is gone."""
    files: dict[str, Path] = {}

    def add(base: Path, name: str) -> None:
        source = base / name
        if not source.is_file():
            raise FileNotFoundError(f"{manifest} names {source}, which does not exist; run `make manifest`")
        files[name] = source

    def module(name: str, base_path: str = ".", opt: int = LEVEL) -> None:
        add((manifest.parent / base_path).resolve(), name)

    def package(name: str, files: tuple[str, ...], base_path: str = ".", opt: int = LEVEL) -> None:
        # Installed, our packages are where Python finds them, not where the manifest says for sources.
        base = SITE if manifest.parent == FOLDER else (manifest.parent / base_path).resolve()
        for file in files:
            add(base, f"{name}/{file}")

    def include(name: str) -> None:
        files.update(listed(manifest.parent / name))

    scope: dict[str, Any] = {"module": module, "package": package, "include": include}
    exec(compile(manifest.read_text(), str(manifest), "exec"), scope)
    return files


def dotted(name: str) -> str:
    """The module of a path: "cpns/errors.py" -> "cpns.errors"."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def in_sources(name: str) -> str:
    """Where a file of a board stands among sources, as a manifest expects it: "board.py" -> "micropython/board.py"."""
    return name if "/" in name else f"{FOLDER_IN_SOURCES}/{name}"
