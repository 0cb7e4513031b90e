"""The REPL of a board on a serial port: it is reached from whatever runs there, and runs programs in raw mode.

    with Repl(port) as repl:
        print(repl.run("print(1 + 1)"))

A running agent is asked to end; the board then resets, and waits for an octet before it starts the agent again. The
protocol is the raw REPL of MicroPython, with raw paste where the board has it. It is spoken here and not by mpremote,
which as a program does not send that octet in time, and whose modules promise no interface.
"""

import itertools
import re
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from keycast.board.answers import shown
from keycast.board.faults import BoardSilent, NoPort
from keycast.board.ports import BACK_S, Port, back_again
from keycast.board.serial_lines import Lines
from keycast.board.serial_port import opened

REACH_S = 20.0  # the agent ends in order, the board resets and starts
RUN_S = 30.0

_POLL_S = 0.05
_QUIET_S = 0.1
_RAW_S = 5.0  # until the raw REPL is asked for once more
_ANSWER_S = 15.0  # for octets that the raw REPL sends while it takes and compiles a program
_PLAIN_CHUNK, _PLAIN_PAUSE_S = 128, 0.01  # octets that the smallest receive buffer holds, and the time to empty it
_HEARD_MAX = 4096
_PRINTED_MAX = 1 << 18  # octets that a program of ours prints at most
_INTERRUPT, _FRIENDLY, _RAW, _RUN, _PASTE = b"\x03", b"\x02", b"\x01", b"\x04", b"\x05A\x01"
_RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
_PROMPT = b">>> "
_WINDOW = b"keycast: start: "  # micropython/main.py: an octet now, and the board stays in its REPL
# Ctrl-B ends the raw REPL that another tool has left, and Return is an octet for that window. Ctrl-C, which ends a
# program, comes last: our agent would note that its next start leads to the REPL, also if the window has led there.
_KNOCKS = b"\r" + _FRIENDLY + b"\r", b"keycast: end\n", b"\r" + _INTERRUPT + _FRIENDLY
_RESET = b"import machine; machine.reset()\r"  # in the friendly REPL, where no answer need be awaited
_FIRST_PAUSE_S, _PAUSE_S = 0.5, 3.0


class BoardAnswered(Exception):
    """A program has raised an exception on the board. The text is the last line of its traceback.

    `kind` is the name of the exception's class, `number` the errno of an OSError.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.kind = line.partition(":")[0]
        found = re.search(r"-?\d+", line) if self.kind == "OSError" else None
        self.number = int(found[0]) if found else None


class Repl:
    """A board that waits in its REPL between `__enter__` and `__exit__`."""

    def __init__(self, port: Port) -> None:
        self.port = port
        """The port on which the board is: another one after a reset, if it came back under another name."""

        self._serial: Any = None
        self._heard = bytearray()
        self._waits = False

    def __enter__(self) -> Self:
        """Open the port and bring the board to its REPL. Raises BoardSilent, NoPort."""
        try:
            self._serial = opened(self.port.device, _POLL_S)
        except OSError as error:
            raise NoPort.closed(self.port.name, error.strerror or str(error)) from None
        try:
            self.reach()
        except BaseException:
            self._serial.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port. The board waits in its REPL or, after `start` or an exception, runs what is on it."""
        try:
            if self._waits:
                self._serial.write(b"\r" + (_FRIENDLY if kind is None else _INTERRUPT + _FRIENDLY + _RESET))
        except OSError:
            pass  # the port went away, and there is nobody to say this to
        finally:
            self._serial.close()

    def reach(self) -> None:
        """Bring the board to its raw REPL, whatever runs there now. Raises BoardSilent, NoPort."""
        self._heard.clear()
        deadline = time.monotonic() + REACH_S
        knocks = itertools.cycle(_KNOCKS)
        knock_at, pause_s = 0.0, _FIRST_PAUSE_S
        while (now := time.monotonic()) < deadline:
            try:
                if now >= knock_at:
                    self._serial.write(next(knocks))
                    knock_at, pause_s = now + pause_s, _PAUSE_S
                new = self._listen(_POLL_S)
                if _WINDOW in new:
                    self._serial.write(b"\r")
                if self._heard.endswith(_PROMPT) and self._enter_raw():
                    self._waits = True
                    return
            except OSError:
                self._open_again()
        raise BoardSilent.heard(self.port.name, bytes(self._heard))

    def run(self, program: str, timeout_s: float = RUN_S) -> str:
        """Run `program` on the board and return what it printed. Raises BoardAnswered, BoardSilent."""
        try:
            self._send(program.encode())
            printed = self._until(_RUN, timeout_s)
            failure = self._until(_RUN, timeout_s)
            self._until(b">", timeout_s)
        except OSError:
            raise BoardSilent.in_repl(self.port.name) from None
        if failure:
            lines = failure.decode(errors="replace").split("\n")
            raise BoardAnswered(shown(next((line.strip() for line in reversed(lines) if line.strip()), "")))
        return printed.decode(errors="replace").replace("\r\n", "\n")

    def restart(self) -> None:
        """Reset the board and bring it to its raw REPL again. Raises BoardSilent, NoPort."""
        self.start()
        try:
            begun, deadline = b"", time.monotonic() + REACH_S
            while _WINDOW not in begun and _PROMPT not in begun and time.monotonic() < deadline:
                begun = (begun + self._listen(_POLL_S))[-_HEARD_MAX:]
            self._serial.write(b"\r")
        except OSError:
            self._open_again()
        self.reach()

    def start(self) -> None:
        """Reset the board, which then starts what is on it. `lines` shows what it prints. Raises NoPort."""
        self._waits = False
        self._heard.clear()
        try:
            self._send(b"import machine\nmachine.reset()\n")
        except OSError:
            self._open_again()

    def lines(self, timeout_s: float) -> Iterator[str]:
        """Yield the lines that the board prints, for `timeout_s` seconds, and "" whenever none came. Raises NoPort.

        A line is safe to show, and one of more than `serial_lines.LINE_MAX` characters is cut in pieces.
        """
        lines, deadline = Lines(), time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                whole = [line.text.strip() for line in lines.take(self._listen(_POLL_S))]
            except OSError:
                self._open_again()
                continue
            yield from whole or [""]

    # Private

    def _enter_raw(self) -> bool:
        deadline = time.monotonic() + _RAW_S
        while self._listen(_QUIET_S):  # the rest of its banners
            if time.monotonic() > deadline:
                return False
        self._serial.write(b"\r" + _RAW)
        heard, deadline = b"", time.monotonic() + _RAW_S
        while not heard.endswith(_RAW_PROMPT):
            if time.monotonic() > deadline:
                return False
            heard = (heard + self._listen(_POLL_S))[-_HEARD_MAX:]
        return True

    def _send(self, program: bytes) -> None:
        """Send a program and begin to run it: by raw paste with its flow control, or in pieces with pauses."""
        self._serial.write(_PASTE)
        answer = self._exactly(2)
        if answer == b"R\x01":
            self._paste(program)
            return
        if answer != b"R\x00":  # older than raw paste: it took the three octets for a program, and shows its prompt
            self._serial.write(b"\r" + _RAW)
            self._until(_RAW_PROMPT, _ANSWER_S)
        for begin in range(0, len(program), _PLAIN_CHUNK):
            self._serial.write(program[begin : begin + _PLAIN_CHUNK])
            time.sleep(_PLAIN_PAUSE_S)
        self._serial.write(_RUN)
        if self._exactly(2) != b"OK":
            raise BoardSilent.in_repl(self.port.name)

    def _paste(self, program: bytes) -> None:
        window = room = int.from_bytes(self._exactly(2), "little")
        deadline = time.monotonic() + RUN_S
        while window and program:
            if not room:
                if self._exactly(1) == _RUN:  # the board ends the transfer
                    self._serial.write(_RUN)
                    return
                room = window
            self._serial.write(program[:room])
            program, room = program[room:], max(room - len(program), 0)
        self._serial.write(_RUN)
        while window and time.monotonic() < deadline:
            if self._exactly(1) == _RUN:
                return
        raise BoardSilent.in_repl(self.port.name)

    def _exactly(self, count: int) -> bytes:
        octets, deadline = b"", time.monotonic() + _ANSWER_S
        while len(octets) < count:
            if time.monotonic() > deadline:
                raise BoardSilent.in_repl(self.port.name)
            octets += self._read(count - len(octets))
        return octets

    def _until(self, end: bytes, timeout_s: float) -> bytes:
        octets, deadline = bytearray(), time.monotonic() + timeout_s
        while not octets.endswith(end):
            if time.monotonic() > deadline or len(octets) > _PRINTED_MAX:
                raise BoardSilent.in_repl(self.port.name)
            octets += self._read(1)
        return bytes(octets[: -len(end)])

    def _read(self, most: int) -> bytes:
        octets: bytes = self._serial.read(most)
        return octets

    def _listen(self, timeout_s: float) -> bytes:
        """Return what comes within `timeout_s` seconds, up to a pause; it is in `_heard` too."""
        octets = self._read(1)
        deadline = time.monotonic() + timeout_s
        while not octets and time.monotonic() < deadline:
            octets = self._read(1)
        if octets:
            octets += self._read(self._serial.in_waiting)
        self._heard += octets
        del self._heard[:-_HEARD_MAX]
        return octets

    def _open_again(self) -> None:
        """Open the port once more, which goes away with a reset if it is on the chip's own USB. Raises NoPort."""
        self._serial.close()
        self.port = back_again(self.port)
        deadline = time.monotonic() + BACK_S
        while True:
            try:
                self._serial = opened(self.port.device, _POLL_S)
                return
            except OSError:  # it is there, and its owner and mode are not set yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)
