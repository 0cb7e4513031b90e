"""The log of a command that keeps running, such as `keycast gateway run`. It goes to standard error."""

import contextlib
import logging
import os
import sys
from typing import Any

import typer

from keycast.terminal.options import answer
from keycast.terminal.output import AnswerLost

_DATES = "%Y-%m-%dT%H:%M:%S%z"
_TALKATIVE = ("bleak", "bumble", "dbus_fast")  # they log each advert and each packet
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def begin_log(verbose: bool = False) -> None:
    """Begin to log, each line with its time; with `verbose` at level debug instead of info.

    The libraries of Bluetooth log warnings at most. Under systemd a line begins with its priority (sd-daemon(3))
    instead, and the journal adds the time.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for library in map(logging.getLogger, _TALKATIVE):
        library.setLevel(max(logging.WARNING, library.level))  # what uses it may want to hear even less


def ready(value: Any, sentence: str) -> None:
    """Print that a command which keeps running is ready: `sentence`, as a line of the log, or `value` with `--json`."""
    record = logging.LogRecord("keycast", logging.INFO, __file__, 0, sentence, None, None)
    with contextlib.suppress(AnswerLost):  # the service goes on if nobody reads its output
        answer(value, lambda: typer.echo(_formatter().format(record)))


def _formatter() -> logging.Formatter:
    if "JOURNAL_STREAM" in os.environ:
        return _JournalFormatter("%(name)s: %(message)s")
    return _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", _DATES)


class _Formatter(logging.Formatter):
    """A formatter that shows what does not print by its number, and indents further lines of a message.

    A text of a peer in it may be made to look like a line of the log, or to move the terminal.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not record.message.isprintable():
            record.message = "\n  ".join(map(_printable, record.message.split("\n")))
        return super().formatMessage(record)


class _JournalFormatter(_Formatter):
    """A formatter that puts "<priority>" before each line, including those of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
