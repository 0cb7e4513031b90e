"""Where answers go when standard output is closed, on a full disk, or a pipe that nobody reads any more.

One place for all commands: what they print with goes through `sys.stdout` and `sys.stderr`.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

PIPE_CLOSED = 141
"""Exit code when the reader of a pipe has gone: that of a program which SIGPIPE ended."""


class AnswerLost(SystemExit):
    """The answer cannot be written; it was said why, if there is somebody to tell. Ends the command."""


def guard_output() -> None:
    """Take standard output and standard error as they are given to this process.

    One that is closed counts as /dev/null, so that no file of ours is opened in its place. An answer that cannot be
    written ends the command with one sentence and exit code 1 or, if its reader has gone, without a word and 141.
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
        # A letter that the encoding of a terminal does not have is shown by its number.
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
        """What is still in the buffer goes to /dev/null, or Python would try it again at its end, and complain."""
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
    """There is nobody left to tell."""
