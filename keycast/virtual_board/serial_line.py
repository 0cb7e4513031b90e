"""A pseudo-terminal that stands for the serial port of a board: tools open and close it, and the board goes on.

As on a serial port, what the board sends while no tool has the port open is lost, and so is what a tool does not read
in time. The terminal is raw: all octets pass as they are.
"""

import asyncio
import contextlib
import os
import select
import tty
from collections.abc import Callable

UNREAD_MAX = 65536
_LOOK_S = 0.02  # between two looks whether a tool has opened the port: the kernel has no event for that
_READ = 4096


class SerialLine:
    """The board's end of the line. `device` is the path that tools open, such as /dev/pts/5.

    `received` is called with the octets that a tool has sent, and `closed` when the last tool has closed the port.
    It belongs to the event loop in which it is made. Raises OSError if there is no pseudo-terminal.
    """

    def __init__(self, received: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._received = received
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._writing = False
        self._end, tool_end = os.openpty()
        try:
            tty.setraw(tool_end)
            self.device = os.ttyname(tool_end)
            os.set_blocking(self._end, False)
        finally:
            os.close(tool_end)
        self._poll = select.poll()
        self._poll.register(self._end, select.POLLIN)
        self.is_open = False
        self._timer = self._loop.call_soon(self._look)

    def send(self, octets: bytes) -> None:
        """Send octets to the tool that has the port open; without one they are lost."""
        if self.is_open and len(self._unsent) + len(octets) <= UNREAD_MAX:
            self._unsent += octets
            self._flush()

    def discard(self) -> None:
        """Drop what was sent and no tool has read yet, as far as it has not left."""
        self._unsent.clear()
        self._flush()

    def close(self) -> None:
        """Take the port away, as when the board is unplugged."""
        self._timer.cancel()
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        os.close(self._end)

    def _look(self) -> None:
        events = sum(event for _, event in self._poll.poll(0))
        if events & select.POLLHUP and not events & select.POLLIN:
            self._timer = self._loop.call_later(_LOOK_S, self._look)
            return
        self.is_open = True
        self._loop.add_reader(self._end, self._readable)

    def _readable(self) -> None:
        try:
            octets = os.read(self._end, _READ)
        except BlockingIOError:
            return
        except OSError:  # EIO: no tool has it open any more
            self._hang_up()
        else:
            self._received(octets)

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._writing = self.is_open = False
        self._unsent.clear()
        self._timer = self._loop.call_later(_LOOK_S, self._look)
        self._closed()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                try:
                    del self._unsent[: os.write(self._end, self._unsent)]
                except BlockingIOError:
                    raise
                except OSError:  # the tool has just closed the port
                    self._unsent.clear()
        if bool(self._unsent) is not self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._end, self._flush)
            else:
                self._loop.remove_writer(self._end)
