"""`make manifest`: write the manifests of boards from what `board.py` imports, directly or not.

Files that only some boards have are in manifests of their own (`OPTIONS`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from keycast.micropython_vm.board_files import FOLDER, LEVEL, MANIFEST, PACKAGES, START, VAL_CLIENT_MANIFEST
from keycast.places import SITE

# manifest -> the modules that it adds, which other boards do not have
OPTIONS = {VAL_CLIENT_MANIFEST: ("before_agent", "device_agent.val_client.service")}

_HEAD = """\
# The files of a board, in the manifest format of MicroPython's firmware build. Written by `make manifest` from what
# board.py imports; a test fails when it is out of date.

"""
_OPTION_HEAD = """\
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false
# A board with {options}: all files of a board, and what these
# import. Written by `make manifest`.

"""


def needed(folder: Path = FOLDER, options: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return all files that a board imports from `main.py` on, of `folder` and of our packages, by path on the board.

    `options` are modules that are imported in addition.
    """
    found: dict[str, Path] = {}
    todo = [(START, folder / START), *(item for module in options for item in files_of(module, folder))]
    optional = {module for modules in OPTIONS.values() for module in modules} - set(options)
    while todo:
        name, source = todo.pop()
        if name not in found:
            found[name] = source
            todo += [item for module in imported(source) if module not in optional for item in files_of(module, folder)]
    return dict(sorted(found.items()))


def imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_of(module: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that importing `module` loads, if it is ours: itself and the `__init__.py` of its packages."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        if (folder / f"{module}.py").is_file():
            yield f"{module}.py", folder / f"{module}.py"
        return
    for length in range(1, len(parts) + 1):
        path = "/".join(parts[:length])
        for name in (f"{path}.py", f"{path}/__init__.py"):
            if (SITE / name).is_file():
                yield name, SITE / name


def text(files: dict[str, Path], options: tuple[str, ...] = ()) -> str:
    """Return the text of the manifest that lists `files`, or only those that `options` add."""
    if options:
        files = {name: path for name, path in needed(options=options).items() if name not in files}
    lines = [f'module("{name}", opt={LEVEL})' for name in files if "/" not in name]
    for package in PACKAGES:
        inside = [name.partition("/")[2] for name in files if name.startswith(package + "/")]
        if inside:
            rows = "".join(f'        "{name}",\n' for name in inside)
            lines.append(f'package(\n    "{package}",\n    (\n{rows}    ),\n    base_path="..",\n    opt={LEVEL},\n)')
    if options:
        lines.insert(0, f'include("{MANIFEST.name}")')
    return (_OPTION_HEAD.format(options=", ".join(options)) if options else _HEAD) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    MANIFEST.write_text(text(needed()))
    for path, modules in OPTIONS.items():
        path.write_text(text(needed(), modules))
