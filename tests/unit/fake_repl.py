"""A board on a pseudo-terminal whose programs run in this process: what a tool meets there, and what it is told."""

from __future__ import annotations

import contextlib
import io
import os
import select
import threading
import traceback
import tty
from collections.abc import Callable
from typing import Any

from keycast.board.ports import Port

WINDOW = b"keycast: start: any key within 2 s for the REPL\r\n"
BANNER = b"\r\nMicroPython v1.25.0; a fake board\r\n>>> "
RAW = b"raw REPL; CTRL-B to exit\r\n>"


class Reset(BaseException):
    """A program has reset the board."""


class Gone(BaseException):
    """The board was unplugged."""


class FakeBoard:
    """A board that is in one of the states "repl", "raw", "agent", "busy" (it does not yield), "silent".

    `scope` holds the names that its programs see, anew at each start. A start leads into the safe window, and without
    an octet there to `agent()`, which returns the lines that the agent prints. `says` is printed while it is busy.
    """

    def __init__(self, state: str = "repl", scope: Callable[[], dict[str, Any]] = dict, *, paste: bool = True) -> None:
        self.state = state
        self.scope = scope
        self.paste = paste
        self.says = b""
        self.agent: Callable[[], list[str]] = list
        self.starts = 0
        self.programs: list[str] = []
        self._is_gone = False
        self._next_to_repl = False  # after Ctrl-C, until a start that has read its files
        self._names = scope()
        self._board, self._tool = os.openpty()
        tty.setraw(self._tool)
        self.port = Port(os.ttyname(self._tool), None, None, "fake")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FakeBoard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_gone = True
        self._thread.join(60)
        os.close(self._tool)
        os.close(self._board)

    def _run(self) -> None:
        with contextlib.suppress(Gone):
            while True:
                with contextlib.suppress(Reset):
                    getattr(self, f"_{self.state}")()

    def _octet(self, wait_s: float = 0.05) -> bytes:
        if self._is_gone:
            raise Gone
        return os.read(self._board, 1) if select.select([self._board], [], [], wait_s)[0] else b""

    def _must(self) -> bytes:
        while not (octet := self._octet()):
            pass
        return octet

    def _print(self, octets: bytes) -> None:
        os.write(self._board, octets)

    def _silent(self) -> None:
        self._octet()

    def _busy(self) -> None:
        self._octet()
        self._print(self.says)

    def _agent(self) -> None:
        line = b""
        for told in self.agent():
            self._print(told.encode() + b"\r\n")
        while self.state == "agent":
            octet = self._octet()
            line = b"" if octet == b"\n" else line + octet
            if octet == b"\x03" or line.endswith(b"keycast: end"):
                self._next_to_repl = octet == b"\x03"
                self._print(b"keycast: ended\r\n")
                self._start()

    def _start(self) -> None:
        self.starts += 1
        self._names = self.scope()
        self._print(b"ets Jul 29 2019 12:21:46\r\n" + WINDOW)
        called = bool(self._octet(1.0))
        if not called:
            called, self._next_to_repl = self._next_to_repl, False
        if called:
            self._print(b"keycast: waiting for a tool" + BANNER)
            self.state = "repl"
        else:
            self.state = "agent"
        raise Reset

    def _repl(self) -> None:
        match self._octet():
            case b"\x01":
                self._print(RAW)
                self.state = "raw"
            case b"\x02":
                self._print(BANNER)
            case b"\x03" | b"\r":
                self._print(b"\r\n>>> ")
            case b"i":  # a line that a tool types
                line = b"i"
                while not line.endswith(b"\r"):
                    line += self._must()
                assert line == b"import machine; machine.reset()\r"
                self._start()

    def _raw(self) -> None:
        code = b""
        while self.state == "raw":
            match self._octet():
                case b"\x02":
                    self._print(BANNER)
                    self.state = "repl"
                case b"\x01":
                    code = b""
                    self._print(RAW)
                case b"\x03":
                    code = b""
                case b"\x05":
                    assert self._must() + self._must() == b"A\x01"
                    if self.paste:
                        self._do(self._pasted())
                    else:
                        self._print(b"R\x00")
                case b"\x04":
                    self._print(b"OK")
                    self._do(code)
                    code = b""
                case octet:
                    code += octet

    def _pasted(self) -> bytes:
        self._print(b"R\x01\x20\x00")  # a window of 32 octets
        code, room = b"", 32
        while (octet := self._must()) != b"\x04":
            assert room, "more was sent than there was room for"
            code, room = code + octet, room - 1
            if not room:
                self._print(b"\x01")
                room = 32
        self._print(b"\x04")
        return code

    def _do(self, code: bytes) -> None:
        text, printed = code.decode(), io.StringIO()
        self.programs.append(text)
        failure = ""
        if "machine.reset()" in text:
            self._start()
        try:
            with contextlib.redirect_stdout(printed):
                exec(text, self._names)
        except Exception as error:  # noqa: BLE001 - as the board does
            failure = "Traceback (most recent call last):\r\n" + "".join(traceback.format_exception_only(error))
        self._print(printed.getvalue().replace("\n", "\r\n").encode() + b"\x04" + failure.encode() + b"\x04>")
