"""Read the serial line of a board for as long as a person wants, also while the board and its port come and go."""

import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from keycast.board.serial_lines import Line, Lines

POLL_S = 0.25
"""Seconds between two looks for a port that is away, and the longest that a read waits."""

_GONE = "it was disconnected"  # which pyserial says without an error number, in words of its own
_SECRET = re.compile(r"\b[A-Z2-7]{4}(?:[- ]?[A-Z2-7]{4}){3}\b")


class OpenPort(Protocol):
    """An open serial port, as of pyserial, whose `read` waits for at most POLL_S seconds."""

    def read(self, size: int) -> bytes:
        """Return the octets that came, at most `size`; none if none came. Raises OSError when the port goes away."""

    def close(self) -> None:
        """Close the port."""


@dataclass(frozen=True)
class Away:
    """The port is not there, or went away; the monitor waits for it. `why` is a sentence of the system, or ""."""

    why: str = ""


@dataclass(frozen=True)
class Here:
    """The port is open, under this name."""

    device: str


Seen = Line | Away | Here


def watch(find: Callable[[], str | None], open_port: Callable[[str], OpenPort]) -> Iterator[Seen | None]:
    """Yield what is seen on the serial line of one board, without end; None each time that nothing came for POLL_S.

    `find` returns the device of the board's port at this moment, or None. `open_port` opens it and raises OSError if
    that cannot be done. A port that goes away is waited for: that of a chip's own USB does so at each reset.
    """
    told = False
    while True:
        device = find()
        why = ""
        if device is not None:
            try:
                port = open_port(device)
            except OSError as error:
                why = error.strerror or _GONE
            else:
                yield Here(device)
                why = yield from _read(port)
                told = False
        if not told:
            yield Away(why)
            told = True
        time.sleep(POLL_S)
        yield None


def _read(port: OpenPort) -> Generator[Seen | None, None, str]:
    # Return why the port cannot be read any more
    lines = Lines()
    try:
        while True:
            octets = port.read(4096)
            if octets:
                yield from lines.take(octets)
            else:
                yield from lines.end()
                yield None
    except OSError as error:
        yield from lines.end()
        return error.strerror or _GONE
    finally:
        port.close()


def without_secrets(text: str) -> str:
    """Return a line of a board for a file: a pairing secret in it, which an unpaired board shows, is covered."""
    return _SECRET.sub("****-****-****-****", text)
