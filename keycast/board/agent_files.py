"""Put the files of the agent onto a board with MicroPython: into its partition for ROMFS, or into its file system.

The board waits in its REPL meanwhile. `main.py` leaves first and comes last, so that a board on which the rest is
half-copied waits for a tool and starts nothing. mpremote does the copying, as a program of its own.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from keycast.board import answers, tool
from keycast.board.answers import Count
from keycast.board.faults import FilesNotCopied
from keycast.board.ports import Port
from keycast.board.repl import BoardAnswered, Repl
from keycast.hardware.board import Board
from keycast.micropython_vm import romfs

_PROGRAM = Path(__file__).with_name("on_board") / "files.py"
_READY_TO_PAIR = _PROGRAM.with_name("ready_to_pair.py")
APP = "app.py"
"""The name that an application has on a board."""

_START = "main.py"
_LOOK = TypeAdapter(tuple[tuple[Count, Count, Count], answers.Text, bool, Count, Count, Count])
_DONE = TypeAdapter(bool)
_PAIRING = TypeAdapter(tuple[answers.Text, Annotated[str, Field(pattern="^[A-Z2-7]{16}$")]] | None)
_NAMES_AT_ONCE = 16
_BLOCK = 4096  # octets in which the file system gives room to a file
_PSRAM_MIN = 1 << 20  # octets of memory that only a board with PSRAM has


class Running(NamedTuple):
    """The MicroPython that a board runs: its version, its chip as in `hw_configs/`, and what there is for our code.

    `is_frozen`: the firmware has our code in it. `romfs` are the octets of its partition for ROMFS, 0 without one;
    `free` those that are left for files.
    """

    version: str
    chip: str
    is_frozen: bool
    romfs: int
    free: int
    has_psram: bool

    @property
    def has_slots(self) -> bool:
        """Whether the partition is that of our own firmware: two slots, for code in place of the frozen one."""
        return self.romfs == 2 * romfs.SLOT

    @property
    def code(self) -> str:
        """From where our code runs, "flash" or "heap", as in the memory profile of a hardware file."""
        return "flash" if self.is_frozen or self.romfs else "heap"


def look(repl: Repl) -> Running:
    """Return what a board in its REPL runs. Raises FilesNotCopied, BoardSilent."""
    version, machine, is_frozen, octets, free, memory = _ask(repl, "look()", _LOOK)
    chip = machine.rpartition(" with ")[2].lower()
    return Running(".".join(map(str, version)), chip, is_frozen, octets, free, memory >= _PSRAM_MIN)


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
    """Put the files of `tree`, or the ROMFS image beside it, onto the board.

    A firmware that has the files frozen in keeps its own, unless it has slots for newer ones.

    `app` is the source of an application, which replaces the one on the board. The board waits in its REPL before and
    after. `progress` is called with the part that is done, 0 to 1. Raises FilesNotCopied, BoardSilent, NoPort, OSError
    for the port.
    """
    ours = [name for name in _names(tree) if name != _START]
    # Older files would be found before the new ones: a source before its .mpy, and both before those in the flash.
    older = [str(PurePosixPath(name).with_suffix(".py")) for name in ours] + (ours if running.code == "flash" else [])
    with repl:
        _ask_in_parts(repl, "remove", [_START, *older])
        if running.code == "heap":
            parents = {str(parent) for name in ours for parent in PurePosixPath(name).parents}
            _ask_in_parts(repl, "make_folders", sorted(parents - {"."}))
    if app is not None:
        _mpremote(repl.port, ["fs", "cp", str(app), f":{APP}"])
    if running.is_frozen and not running.has_slots:
        return
    if running.romfs:
        image = tree.with_suffix(".romfs").read_bytes()
        _deploy(repl.port, romfs.slot(image, int(time.time())) if running.has_slots else image, progress)
    else:
        _copy(repl.port, tree, ours, progress)
    _mpremote(repl.port, ["fs", "cp", str(tree / _START), f":{_START}"])
    progress(1.0)


def run_these(repl: Repl) -> None:
    """Have a board that was restarted with the agent's files run them, and not an update that came over the air.

    The numbers below which it takes no update stay. Raises FilesNotCopied, BoardSilent.
    """
    _ask(repl, "run_these()")


def save_record(repl: Repl, record: str, octets: bytes) -> None:
    """Save a record of the key store on a board that was restarted with the agent's files.

    Raises FilesNotCopied, BoardSilent.
    """
    _ask(repl, f"save({record!r}, {octets!r})")


def ready_to_pair(repl: Repl) -> tuple[str, str] | None:
    """Let a board with the agent's files make identity and pairing secret if it has none (SEC-20).

    Returns its name and the secret, 16 characters. Returns None for a board that has a gateway, and for one whose heap
    is too small beside a tool; it makes both at its next start. Raises FilesNotCopied, BoardSilent.
    """
    told: tuple[str, str] | None = _run(repl, _READY_TO_PAIR.read_text(), _PAIRING)
    return told


def _deploy(port: Port, image: bytes, progress: Callable[[float], None]) -> None:
    def told(line: str) -> None:
        at = line.removeprefix("Writing at offset ").strip()
        if at.isdecimal():
            progress(int(at) / len(image))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.romfs"
        path.write_bytes(image)
        _mpremote(port, ["romfs", "deploy", str(path)], told)


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


def _ask(repl: Repl, call: str, form: TypeAdapter[Any] = _DONE) -> Any:
    """Return what the program on the board prints when it makes this call. Raises FilesNotCopied, BoardSilent."""
    return _run(repl, f"{_PROGRAM.read_text()}\n{call}\n", form)


def _ask_in_parts(repl: Repl, function: str, names: Sequence[str]) -> None:
    """Make a call of the program on the board for some of the names at a time. Raises FilesNotCopied, BoardSilent.

    All names in one program would be kilobytes in small pieces in the middle of the heap, which may stay there when it
    has ended: then the next tool finds no room for its octets.
    """
    for at in range(0, len(names), _NAMES_AT_ONCE):
        call = f"{function}({list(names[at : at + _NAMES_AT_ONCE])})"
        if at:  # the program is there
            _run(repl, f"{call}\n", _DONE)
        else:
            _ask(repl, call)


def _run(repl: Repl, program: str, form: TypeAdapter[Any]) -> Any:
    try:
        printed = repl.run(program)
    except BoardAnswered as answered:
        raise FilesNotCopied.stopped(repl.port.name, f"the board says {answered}.") from None
    try:
        return answers.read(printed, form)
    except ValueError:
        raise FilesNotCopied.stopped(repl.port.name, "the answer of the board cannot be read.") from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
