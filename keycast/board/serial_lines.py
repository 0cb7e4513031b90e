"""The text that a board writes on its serial line, cut into lines, and what a person should know about some of them.

Two programs write there: the chip's boot ROM, which says why it started, and the board's own files, whose status lines
begin with `keycast:` (docs/board_start.md). This module does no input or output.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from keycast.board.answers import shown

LINE_MAX = 1000
"""Characters of one line; a longer one, as the noise of a wrong speed makes, is cut in pieces of this length."""

_RESET = re.compile(r"\brst:0x([0-9a-fA-F]{1,2})\b ?(?:\(([A-Z0-9_]+)\))?")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# The reset reasons of the boot ROMs (ESP-IDF, soc/reset_reasons.h), which have the same numbers on all our chips.
_POWER_ON = (0x01,)
_SOFTWARE = (0x03, 0x0C)
_DEEP_SLEEP = (0x05,)
_WATCHDOG = (0x07, 0x08, 0x09, 0x0B, 0x0D, 0x10, 0x11, 0x12)
_BROWNOUT = (0x0F, 0x19)
_USB = (0x15, 0x16)
_REASONS = (
    (_POWER_ON, "power on, or the reset button"),
    (_SOFTWARE, "the program restarted the board"),
    (_DEEP_SLEEP, "the board woke from deep sleep"),
    (_WATCHDOG, "a watchdog reset the board: its program stood still"),
    (_BROWNOUT, "brownout: the supply voltage fell too low. Use another cable, socket or power supply"),
    (_USB, "a program on this computer reset the board over USB"),
)
# Other lines that a person meets, and what they mean. The first that is found in the line counts.
_KNOWN = (
    ("Brownout detector was triggered", "the supply voltage fell too low. Use another cable, socket or power supply"),
    ("invalid header: 0xffffffff", "the flash is empty: keycast board flash"),
    ("invalid header:", "there is no firmware for this chip in the flash: keycast board flash"),
    ("waiting for download", "the board is in its boot loader: keycast board flash, or press the reset button"),
    ("Task watchdog got triggered", "the program stood still, and the watchdog resets the board"),
    ("Guru Meditation Error", "the firmware crashed, which no program in Python can cause by itself: save the lines"),
    ("keycast: update collecting ", "the board collects an update: keycast update status"),
    ("keycast: update waiting ", "the update is whole: the board restarts, and installs it"),
    ("keycast: update trial ", "the update runs on trial, until the gateway answers"),
    ("keycast: update confirmed ", "the gateway has answered: the board keeps the update"),
    ("keycast: update fell-back ", "what ran before runs again: keycast update status says why"),
    ("keycast: update refused ", "the board does not take the update: keycast update status says why"),
    ("MemoryError", "the Python heap is full"),
)


@dataclass(frozen=True)
class Line:
    """One line of the board: its `text`, which is safe to show, and a `remark` for a person, or ""."""

    text: str
    remark: str = ""


class Lines:
    """Cuts the octets of a serial line into lines. Octets that are no UTF-8 are shown as \\xNN."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, octets: bytes) -> Iterator[Line]:
        """Yield the lines that `octets` complete, without the prompts and blanks around them."""
        *whole, self._rest = (self._rest + octets).split(b"\n")
        while len(self._rest) > LINE_MAX:
            whole.append(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]
        for each in whole:
            for start in range(0, max(len(each), 1), LINE_MAX):
                yield _line(each[start : start + LINE_MAX])

    def end(self) -> Iterator[Line]:
        """Yield the line that has begun, if any, because the port is gone or nothing follows for now."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            yield _line(rest)


def _line(octets: bytes) -> Line:
    text = shown(_CONTROL.sub("", octets.decode("utf-8", "backslashreplace"))).rstrip()
    return Line(text, remark(text))


def remark(text: str) -> str:
    """Return what a person should know about a line of the board, or "" if the line speaks for itself."""
    reset = _RESET.search(text)
    if reset:
        reason = int(reset[1], 16)
        for reasons, meaning in _REASONS:
            if reason in reasons:
                return meaning
        return f"a reset for a reason that is not known here: 0x{reason:x}"
    return next((meaning for words, meaning in _KNOWN if words in text), "")
