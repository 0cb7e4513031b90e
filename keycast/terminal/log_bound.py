"""Bounds the log: whoever is in the network and makes this program write warnings does not fill the disk."""

import logging
from collections.abc import Sequence

from gateway_agent.observe.log_lines import code_of

LINES_MAX = 60
"""Lines of one code that are written in a minute."""
_WINDOW_S = 60.0


class BoundedLog(logging.Handler):
    """Passes each record to the handlers `behind`, but of one code at most `LINES_MAX` in a minute.

    How many more there were is told by one line when the minute is over and anything is written. Lines without a code
    all pass: they tell of what persons and boards of the home do.
    """

    def __init__(self, behind: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._behind = behind
        self._since = float("-inf")
        self._counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, or count it. `logging` calls this, in one thread at a time."""
        if not 0 <= record.created - self._since < _WINDOW_S:
            self._tell_of_more()
            self._since = record.created
        if code := code_of(record):
            self._counts[code] = self._counts.get(code, 0) + 1
            if self._counts[code] > LINES_MAX:
                return
        self._pass_on(record)

    def close(self) -> None:
        """Tell what was not written, and close the handlers behind."""
        self._tell_of_more()
        for handler in self._behind:
            handler.close()
        super().close()

    def _tell_of_more(self) -> None:
        for code, count in self._counts.items():
            if count > LINES_MAX:
                said = "KC5002 %d more lines of %s in the minute before were not written"
                self._pass_on(
                    logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, (count - LINES_MAX, code), None)
                )
        self._counts.clear()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for handler in self._behind:
            if record.levelno >= handler.level:
                handler.handle(record)
