"""Put the files of the agent onto a board with MicroPython: into its partition for ROMFS, or into its file system.

The board waits in its REPL meanwhile. `main.py` leaves first and comes last, so that a board on which the rest is
half-copied waits for a tool and starts nothing. mpremote does the copying, as a program of its own.
"""

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from keycast.board import board_record, tool
from keycast.board.faults import FilesNotCopied
from keycast.board.ports import Port
from keycast.board.repl import BoardAnswered, Repl
from keycast.hardware.board import Board

_PROGRAM = Path(__file__).with_name("on_board") / "files.py"
APP = "app.py"
"""The name that an application has on a board."""

_START = "main.py"
_BLOCK = 4096  # octets in which the file system gives room to a file
_PSRAM_MIN = 1 << 20  # octets of memory that only a board with PSRAM has


class Running(NamedTuple):
    """The MicroPython that a board runs: its version, its chip as in `hw_configs/`, and what there is for our code.

    `is_frozen`: the firmware has our code in it. `has_romfs`: there is a partition for it. `free` are the octets that
    are left for files.
    """

    version: str
    chip: str
    is_frozen: bool
    has_romfs: bool
    free: int
    has_psram: bool

    @property
    def code(self) -> str:
        """From where our code runs, "flash" or "heap", as in the memory profile of a hardware file."""
        return "flash" if self.is_frozen or self.has_romfs else "heap"


def look(repl: Repl) -> Running:
    """Return what a board in its REPL runs. Raises FilesNotCopied, BoardSilent."""
    version, machine, is_frozen, has_romfs, free, memory = _ask(repl, "look()")
    chip = machine.rpartition(" with ")[2].lower()
    return Running(".".join(map(str, version)), chip, is_frozen, has_romfs, free, memory >= _PSRAM_MIN)


def require_usable(running: Running, board: Board, tree: Path, app: Path | None = None) -> None:
    """Raise FilesNotCopied if the board's MicroPython is too old, or the files of the folder `tree` have no room.

    `app` is a file that is copied beside them.
    """
    if _numbers(running.version) < _numbers(board.oldest_micropython):
        raise FilesNotCopied.too_old(running.version, board.oldest_micropython)
    files = [tree / name for name in (_names(tree) if running.code == "heap" else [_START])]
    needed = sum(-(-file.stat().st_size // _BLOCK) * _BLOCK for file in (*files, *([app] if app else [])))
    if running.free < needed:
        raise FilesNotCopied.no_room(needed, running.free)


def put(
    repl: Repl,
    running: Running,
    tree: Path,
    progress: Callable[[float], None] = lambda done: None,
    app: Path | None = None,
) -> None:
    """Put the files of `tree`, or the ROMFS image beside it, onto the board. A firmware that has them keeps its own.

    `app` is the source of an application, which replaces the one on the board. The board waits in its REPL before and
    after. `progress` is called with the part that is done, 0 to 1. Raises FilesNotCopied, BoardSilent, NoPort, OSError
    for the port.
    """
    ours = [name for name in _names(tree) if name != _START]
    # Older files would be found before the new ones: a source before its .mpy, and both before those in the flash.
    older = [str(PurePosixPath(name).with_suffix(".py")) for name in ours] + (ours if running.code == "flash" else [])
    with repl:
        _ask(repl, f"remove({[_START, *older]})")
        if running.code == "heap":
            parents = {str(parent) for name in ours for parent in PurePosixPath(name).parents}
            _ask(repl, f"make_folders({sorted(parents - {'.'})})")
    if app is not None:
        _mpremote(repl.port, ["fs", "cp", str(app), f":{APP}"])
    if running.is_frozen:
        return
    if running.has_romfs:
        _deploy(repl.port, tree.with_suffix(".romfs"), progress)
    else:
        _copy(repl.port, tree, ours, progress)
    _mpremote(repl.port, ["fs", "cp", str(tree / _START), f":{_START}"])
    progress(1.0)


def save_board_record(repl: Repl, octets: bytes) -> None:
    """Save the record of `board_record` on a board that was restarted with the agent's files. Raises FilesNotCopied,
    BoardSilent."""
    _ask(repl, f"save({board_record.RECORD!r}, {octets!r})")


def _deploy(port: Port, image: Path, progress: Callable[[float], None]) -> None:
    size = image.stat().st_size

    def told(line: str) -> None:
        at = line.removeprefix("Writing at offset ").strip()
        if at.isdecimal():
            progress(int(at) / size)

    _mpremote(port, ["romfs", "deploy", str(image)], told)


def _copy(port: Port, tree: Path, names: Sequence[str], progress: Callable[[float], None]) -> None:
    """Copy files of `tree`, with one command of mpremote for each folder."""
    words: list[str] = []
    for folder, inside in groupby(names, lambda name: name.rpartition("/")[0]):
        words += [*(["+"] if words else []), "fs", "cp", *(str(tree / name) for name in inside), f":{folder}/"]
    begun = 0

    def told(line: str) -> None:
        nonlocal begun
        if line.startswith("cp "):
            progress(begun / len(names))
            begun += 1

    _mpremote(port, words, told)


def _names(tree: Path) -> list[str]:
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())


def _mpremote(port: Port, words: Sequence[str], told: Callable[[str], None] = lambda line: None) -> None:
    """Run mpremote on a board that waits in its REPL, and call `told` with each line. Raises FilesNotCopied."""
    ended = tool.run("mpremote", ["connect", port.device, "resume", *words], told)
    if ended.done:
        return
    if "No space left" in ended.text or "OSError: 28" in ended.text:
        raise FilesNotCopied.no_room(0, None)
    raise FilesNotCopied.stopped(port.device, f"{ended.last.rstrip('.')}.")


def _ask(repl: Repl, call: str) -> Any:
    """Return what the program on the board prints when it makes this call. Raises FilesNotCopied, BoardSilent."""
    try:
        printed = repl.run(f"{_PROGRAM.read_text()}\n{call}\n")
    except BoardAnswered as answered:
        raise FilesNotCopied.stopped(repl.port.name, f"the board says {answered}.") from None
    try:
        return json.loads(printed.strip().rpartition("\n")[2])
    except (ValueError, RecursionError):
        raise FilesNotCopied.stopped(repl.port.name, "the answer of the board cannot be read.") from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
