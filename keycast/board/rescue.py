"""Help a board that does not start: read its last error, put its files anew, or erase all that it knows.

The board waits in its REPL meanwhile, for which none of our files need to work.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from keycast.board import agent_files, answers
from keycast.board.faults import NotRescued
from keycast.board.ports import Port
from keycast.board.repl import BoardAnswered, Repl

_TO_REPL = 255  # micropython/strikes.py, in place of the number: the agent was ended by Ctrl-C
_DONE = TypeAdapter(None)
_LEFT_AND_CACHES = TypeAdapter(tuple[answers.Count, answers.Count])
_PROGRAM = Path(__file__).with_name("on_board") / "rescue.py"


class Trouble(NamedTuple):
    """What a board knows of its trouble.

    `broken` is why its files do not run, or "". `starts` is the number of starts in a row that failed, `error` what
    ended the agent last, or "". `pne_id` is None on a board without identity, and if its files do not run. `cleared` is
    False if erased values stay in its flash, None if that is not known.
    """

    broken: str
    starts: int
    error: str
    pne_id: str | None
    cleared: bool | None


class _Broken(BaseModel):
    broken: answers.Text


class _Told(BaseModel):
    starts: answers.Count
    error: answers.Text
    pne_id: answers.Text | None
    cleared: bool


_LOOK = TypeAdapter(_Told | _Broken)


def look(repl: Repl) -> Trouble:
    """Return what the board in its REPL says of itself. Raises NotRescued, BoardSilent."""
    told = _ask(repl, "look()", _LOOK)
    if isinstance(told, _Broken):
        return Trouble(told.broken, 0, "", None, None)
    starts = 0 if told.starts == _TO_REPL else told.starts
    return Trouble("", starts, told.error, told.pne_id, told.cleared)


def put_files(port: Port, tree: Path, progress: Callable[[float], None]) -> Port:
    """Put the files of the folder `tree` onto the board anew, and start it with its count of failed starts at zero.

    Its identity, keys and applications stay. Return the port on which it is then. Raises NotRescued, FilesNotCopied,
    BoardSilent, NoPort, OSError for the port.
    """
    repl = Repl(port)
    with repl:
        running = agent_files.look(repl)
    agent_files.put(repl, running, tree, progress)
    with repl:
        repl.restart()
        agent_files.run_these(repl)
        _ask(repl, "begin_anew()", _DONE)
        repl.start()
    return repl.port


def erase(repl: Repl) -> bool:
    """Erase identity, keys and Wi-Fi password of the board in its REPL, and restart it, which leaves it unprovisioned.

    Each sector of the partition `nvs` is erased and read again. Return True if there were caches of a VAL client too:
    these are removed, but a file system that never writes over old octets keeps them. Raises NotRescued, BoardSilent,
    NoPort.
    """
    left, caches = _ask(repl, "erase()", _LEFT_AND_CACHES)
    repl.restart()
    if left:
        raise NotRescued.not_erased(left)
    return bool(caches)


def _ask(repl: Repl, call: str, form: TypeAdapter[Any]) -> Any:
    try:
        printed = repl.run(f"{_PROGRAM.read_text()}\n{call}\n")
    except BoardAnswered as answered:
        raise NotRescued.refused(str(answered)) from None
    try:
        return answers.read(printed, form)
    except ValueError:
        raise NotRescued.refused("its answer cannot be read") from None
