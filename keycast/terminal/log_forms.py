"""The forms of the log: lines for people, lines with a priority for journald, one JSON object a line for programs.

A text of a peer in a line may be made to look like another line, or to move the terminal: in each form what does not
print is shown by its number.
"""

import datetime
import json
import logging

from gateway_agent.observe.log_lines import about, code_of, level_of, printable, text_of

_DATES = "%Y-%m-%dT%H:%M:%S%z"
_PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "debug": "\x1b[2m"}
_PLAIN = "\x1b[0m"


def priority_of(record: logging.LogRecord) -> int:
    """Return the priority of a record as syslog(3) and journald count them."""
    return _PRIORITIES[level_of(record)]


def lines_of(text: str) -> str:
    """Return `text` with its further lines indented, so that none of them looks like a line of the log."""
    return text if text.isprintable() else "\n  ".join(map(printable, text.split("\n")))


class TextForm(logging.Formatter):
    """A line for people: time, level, area, text. With `is_coloured` the level has a colour."""

    def __init__(self, is_coloured: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", _DATES)
        self._is_coloured = is_coloured

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without a traceback."""
        record.message = lines_of(record.message)
        colour = _COLOURS.get(level_of(record), "") if self._is_coloured else ""
        if not colour:
            return super().formatMessage(record)
        name = record.levelname
        record.levelname = f"{colour}{name}{_PLAIN}"
        try:
            return super().formatMessage(record)
        finally:
            record.levelname = name  # other handlers have the same record

    def formatException(self, ei: object) -> str:
        """Return the traceback, whose last lines may be the text of a peer."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


class PriorityForm(TextForm):
    """A line that begins with "<priority>" (sd-daemon(3)), as do those of a traceback. journald adds the time."""

    def __init__(self) -> None:
        super().__init__()
        self._style = logging.PercentStyle("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return "\n".join(f"<{priority_of(record)}>{line}" for line in super().format(record).splitlines())


class JsonForm(logging.Formatter):
    """One JSON object in one line: at, level, area, text and, where there are any, code, sg_id, pne_id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, in ASCII."""
        sg_id, pne_id = about(record)
        shown = {
            "at": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": level_of(record),
            "area": record.name,
            "code": code_of(record),
            "text": text_of(record),
            "sg_id": sg_id,
            "pne_id": pne_id,
        }
        return json.dumps({key: value for key, value in shown.items() if value})
