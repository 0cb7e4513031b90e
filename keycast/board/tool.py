"""Run a tool of others, such as esptool, as a program of its own, and read what it prints while it works."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keycast.board.answers import shown

_LINE_MAX, _LINES_MAX = 4000, 2000


class Ended(NamedTuple):
    """A tool that has ended: whether it did what it should, and its last lines, which are safe to show."""

    done: bool
    lines: list[str]

    @property
    def text(self) -> str:
        """All lines."""
        return "".join(self.lines)

    @property
    def last(self) -> str:
        """The last line with a word in it, "" if there is none."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "")


def run(
    module: str, words: Sequence[str], told: Callable[[str], None] = lambda line: None, silence_s: float = 600
) -> Ended:
    """Run the Python module `module` with the arguments `words`, and call `told` with each line that it prints.

    It is ended if it prints nothing for `silence_s` seconds, as it may wait for a board that answers no more.
    """
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],  # not with modules of the folder that a person is in
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"},
    ) as process:
        assert process.stdout is not None
        heard = _Heard(process, silence_s)
        try:
            while line := process.stdout.readline(_LINE_MAX):
                line = shown(line.rstrip("\n")) + "\n"  # with words of the board in it
                lines.append(line)
                del lines[:-_LINES_MAX]
                heard.at = time.monotonic()
                told(line)
        except BaseException:
            process.kill()
            raise
        finally:
            heard.ended.set()
    return Ended(process.returncode == 0, lines)


class _Heard:
    """Ends a process that was not heard, `at`, for so many seconds, until `ended` is set."""

    def __init__(self, process: subprocess.Popen[str], silence_s: float) -> None:
        self.at = time.monotonic()
        self.ended = threading.Event()
        threading.Thread(target=self._watch, args=(process, silence_s), daemon=True).start()

    def _watch(self, process: subprocess.Popen[str], silence_s: float) -> None:
        while (left := self.at + silence_s - time.monotonic()) > 0:
            if self.ended.wait(left):
                return
        process.kill()
