"""How `keycast` ends when its answer cannot be written: standard output is closed, a full disk, or an unread pipe.

This holds for all commands, as everything that they print goes through `sys.stdout` and `sys.stderr`.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

PIPE_CLOSED = 141
"""Exit code when the reader of a pipe has gone, as of a program that SIGPIPE ended."""


class AnswerLost(SystemExit):
    """The answer cannot be written; this ends the command. Its reason is on standard error, if that can be written."""


def guard_output() -> None:
    """Replace standard output and standard error by streams that end the command when the answer cannot be written.

    It then ends with one sentence and exit code 1 or, if the reader of a pipe has gone, without a word and 141. A
    standard stream that is closed becomes /dev/null, so that no file opened later takes its descriptor.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stderr = _Guarded(_taken(sys.stderr, 2), _forget)
    sys.stdout = _Guarded(_taken(sys.stdout, 1), _end)


class _Guarded(io.TextIOWrapper):
    """A text stream that calls `lost` with what the system says when it cannot be written."""

    def __init__(self, stream: TextIO, lost: Callable[[OSError], None]) -> None:
        self._lost = lost
        # A letter that the terminal's encoding does not have is shown as its number.
        how = {"encoding": stream.encoding, "errors": "backslashreplace", "line_buffering": stream.line_buffering}
        super().__init__(stream.detach(), **how)  # type: ignore[attr-defined, arg-type]

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send the rest of the buffer to /dev/null, as Python would try to write it again at exit, and complain; then
        call `lost`."""
        descriptor = self.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        super().flush()
        self._lost(error)


def _taken(stream: TextIO | None, descriptor: int) -> TextIO:
    return stream if stream is not None else open(descriptor, "w", closefd=False)


def _end(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        raise AnswerLost(PIPE_CLOSED)
    print(f"keycast: the answer cannot be written: {error.strerror}.", file=sys.stderr)
    raise AnswerLost(1)


def _forget(error: OSError) -> None:
    """Ignore that standard error cannot be written: there is no other place for a message."""
