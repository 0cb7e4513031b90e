"""The log of a command that runs on: to standard error, each line with its time from the first one on."""

import contextlib
import logging
import os
import sys
from typing import Any

import typer

from keycast.terminal.options import answer
from keycast.terminal.output import AnswerLost

_DATES = "%Y-%m-%dT%H:%M:%S%z"
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def begin_log(verbose: bool = False) -> None:
    """Log from now on. Under systemd a line begins with its priority (sd-daemon(3)) and the journal adds the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def ready(value: Any, sentence: str) -> None:
    """Say on standard output that what runs on is ready: a line as in the log or, with `--json`, one JSON value."""
    record = logging.LogRecord("keycast", logging.INFO, __file__, 0, sentence, None, None)
    with contextlib.suppress(AnswerLost):  # who started it need not listen; its work is elsewhere
        answer(value, lambda: typer.echo(_formatter().format(record)))


def _formatter() -> logging.Formatter:
    if "JOURNAL_STREAM" in os.environ:
        return _JournalFormatter("%(name)s: %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", _DATES)


class _JournalFormatter(logging.Formatter):
    """Puts "<priority>" before each line, those of a traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
