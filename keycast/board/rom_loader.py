"""The boot loader in the ROM of a chip: which chip it is, and firmware written through it.

esptool does the work, as a program of its own, and this module reads what it prints.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from keycast.board import tool
from keycast.board.faults import LoaderFault
from keycast.board.image import ImagePart
from keycast.board.ports import Port, back_again
from keycast.hardware.board import KIB, Socket

BAUD = 460800
"""The usual speed of writing. It only matters on boards with a USB-to-UART bridge."""

ANY_BOARD = "Hold the button BOOT, press the reset button for a moment, let go of BOOT."
"""How a person leads a board of which only the chip is known, if anything, into its boot loader."""

_CHIP = re.compile(r"^Connected to (ESP32[\w-]*) on ", re.MULTILINE)
_FLASH = re.compile(r"^Detected flash size: (\d+)([KM])B", re.MULTILINE)
_WRITING = re.compile(r"^Writing at 0x([0-9a-f]{1,8})")
_FATAL = re.compile(r"A fatal error occurred: ([^\n]+)")
_UNITS = {"K": KIB, "M": KIB * KIB}


class FoundChip(NamedTuple):
    """A chip in its boot loader: its name as in `hw_configs/`, such as "esp32s3", and its flash, None if unknown."""

    name: str
    flash_octets: int | None


class RomLoader:
    """The boot loader of the board on `port`.

    `socket` is the board's USB socket, or None if the board is not known; `how` says how a person leads it into its
    boot loader, which esptool tries `attempts` times. `port` changes when the board comes back under another name.
    """

    def __init__(self, port: Port, socket: Socket | None = None, how: str = ANY_BOARD, attempts: int = 3) -> None:
        self.port = port
        self.socket = socket
        self.how = how
        self._attempts = attempts

    def enter(self) -> FoundChip:
        """Lead the board into its boot loader, where it stays, and return what it is. Raises LoaderFault, NoPort."""
        options = ["--connect-attempts", str(self._attempts), "--no-stub"]
        try:
            words = self._run([*options, "--before", self._before, "--after", "no-reset", "flash-id"])
        except LoaderFault:
            came_back = back_again(self.port)
            if came_back == self.port:
                raise
            self.port = came_back  # entering the boot loader gave it another name
            words = self._run([*options, "--before", "no-reset", "--after", "no-reset", "flash-id"])
        chip, flash = _CHIP.search(words), _FLASH.search(words)
        if chip is None:
            raise LoaderFault.not_entered(self.port.device, self.how)
        return FoundChip(chip[1].lower().replace("-", ""), int(flash[1]) * _UNITS[flash[2]] if flash else None)

    def read(self, offset: int, size: int) -> bytes:
        """Return octets of the flash of a board that is in its boot loader. Raises LoaderFault."""
        with tempfile.TemporaryDirectory(prefix="keycast-flash-") as folder:
            path = Path(folder) / "read.bin"
            options = ["--no-stub", "--before", "no-reset", "--after", "no-reset"]
            self._run([*options, "read-flash", hex(offset), hex(size), str(path)])
            return path.read_bytes()

    def leave(self) -> None:
        """Start the firmware of a board that is in its boot loader. Raises LoaderFault."""
        self._run(["--no-stub", "--before", "no-reset", "--after", self._after, "flash-id"])

    def write(
        self,
        chip: FoundChip,
        parts: Sequence[ImagePart],
        *,
        erase: bool = False,
        baud: int = BAUD,
        progress: Callable[[float], None] = lambda done: None,
    ) -> None:
        """Write `parts` to the flash of a board that is in its boot loader, read them back, and start the board.

        With `erase` all of the flash is erased first. `progress` is called with the part that is done, 0 to 1. Raises
        LoaderFault.
        """
        whole = sum(len(part.octets) for part in parts)
        before = {part.offset: sum(len(each.octets) for each in parts[:number]) for number, part in enumerate(parts)}

        def told(line: str) -> None:
            if (found := _WRITING.match(line)) and (starts := [at for at in before if at <= int(found[1], 16)]):
                progress(min(1.0, (before[max(starts)] + int(found[1], 16) - max(starts)) / whole))

        options = ["--chip", chip.name, "--baud", str(baud), "--before", "no-reset", "--after", self._after]
        with _files(parts) as words:
            self._run([*options, "write-flash", *(["--erase-all"] if erase else []), *words], told)
        progress(1.0)

    @property
    def _before(self) -> str:
        if self.port.is_virtual:
            return "no-reset"  # a pseudo-terminal has no lines for that
        return self.socket.before if self.socket else "default-reset"

    @property
    def _after(self) -> str:
        if self.port.is_virtual:
            return "no-reset"  # it resets when its port is closed
        return self.socket.after if self.socket else "hard-reset"

    def _run(self, options: Sequence[str], told: Callable[[str], None] = lambda line: None) -> str:
        """Run esptool, call `told` with each line that it prints, and return all. Raises LoaderFault."""
        ended = tool.run("esptool", ["--port", self.port.device, *options], told)
        if ended.done:
            return ended.text
        if not os.path.exists(self.port.device):
            raise LoaderFault.not_written(self.port.device, "its port went away.", self.how)
        if "Failed to connect" in ended.text:
            raise LoaderFault.not_entered(self.port.device, self.how)
        fatal = _FATAL.search(ended.text)
        reason = fatal[1] if fatal else ended.last
        raise LoaderFault.not_written(self.port.device, f"{reason.rstrip('.')}.", self.how)


@contextmanager
def _files(parts: Sequence[ImagePart]) -> Iterator[list[str]]:
    """Write each part into a file for the `with` block, and return the words by which esptool is told of them."""
    with tempfile.TemporaryDirectory(prefix="keycast-flash-") as folder:
        words = []
        for number, part in enumerate(parts):
            path = Path(folder) / f"{number}.bin"
            path.write_bytes(part.octets)
            words += [hex(part.offset), str(path)]
        yield words
