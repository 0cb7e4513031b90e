"""Run a tool of others, such as esptool, as a program of its own, and read what it prints while it works."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Ended(NamedTuple):
    """A tool that has ended: whether it did what it should, and the lines that it printed."""

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


def run(module: str, words: Sequence[str], told: Callable[[str], None] = lambda line: None) -> Ended:
    """Run the Python module `module` with the arguments `words`, and call `told` with each line that it prints."""
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"},
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                told(line)
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode == 0, lines)
