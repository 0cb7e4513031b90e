"""The log of a command that keeps running, such as `keycast gateway run`: to the journal, or to standard error."""

import contextlib
import logging
import os
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway_agent.observe.log_lines import LogLines
from keycast.terminal.journal import JournalHandler, is_journal
from keycast.terminal.log_bound import BoundedLog
from keycast.terminal.log_forms import JsonForm, PriorityForm, TextForm
from keycast.terminal.options import answer
from keycast.terminal.output import AnswerLost

_form: "LogForm | None" = None  # of the command that runs
_TALKATIVE = ("bleak", "bumble", "dbus_fast")  # they log each advert and each packet


class LogForm(StrEnum):
    """The forms of the log."""

    JOURNAL = "journal"
    JSON = "json"
    TEXT = "text"


LogOption = Annotated[
    LogForm | None,
    typer.Option("--log", help="Form of the log. Default: journal under systemd, else text.", show_default=False),
]


def begin_log(form: LogForm | None = None, verbose: bool = False) -> LogLines:
    """Begin to log in `form`; with `verbose` at level debug instead of info. Return what keeps the newest lines.

    The libraries of Bluetooth log warnings at most.
    """
    global _form
    _form = form
    lines = LogLines()
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=[BoundedLog([_handler(form), lines])])
    for library in map(logging.getLogger, _TALKATIVE):
        library.setLevel(max(logging.WARNING, library.level))  # what uses it may want to hear even less
    return lines


def ready(value: Any, sentence: str) -> None:
    """Print that a command which keeps running is ready: `sentence`, as a line of the log, or `value` with `--json`."""
    record = logging.LogRecord("keycast", logging.INFO, __file__, 0, sentence, None, None)
    formatter = _formatter(_form, sys.stdout.isatty())
    with contextlib.suppress(AnswerLost):  # the service goes on if nobody reads its output
        answer(value, lambda: typer.echo(formatter.format(record)))


def is_at_terminal() -> bool:
    """Return True if a person started this command in a terminal and reads what it prints, and no service manager."""
    return sys.stdout.isatty() and not os.environ.get("NOTIFY_SOCKET") and not is_journal(sys.stdout)


def _handler(form: LogForm | None) -> logging.Handler:
    if form is LogForm.JOURNAL or (form is None and is_journal(sys.stderr)):
        return JournalHandler()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form, sys.stderr.isatty()))
    return handler


def _formatter(form: LogForm | None = None, is_terminal: bool = False) -> logging.Formatter:
    if form is LogForm.JSON:
        return JsonForm()
    if form is LogForm.JOURNAL or (form is None and "JOURNAL_STREAM" in os.environ):
        return PriorityForm()
    return TextForm(is_coloured=is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb")
