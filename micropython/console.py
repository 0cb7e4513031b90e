"""The serial line while the agent runs. A tool writes a line, and the board does what it asks:

    keycast: end    end in order and start anew, with the window for tools (main.py)
    keycast: who    print one line `keycast: who {...}`, see `describe.py`

An application must not read standard input itself. It may set `listener`, which is called with each other line as
bytes, and with b"" when the input has ended.
"""

import select
import sys
from asyncio import core  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs

PREFIX = b"keycast: "
END, WHO = PREFIX + b"end", PREFIX + b"who"
LINE_MAX = 64  # octets; a longer line is dropped, unless there is a listener
LINE_MAX_LISTENER = 8192

listener = None


class End(KeyboardInterrupt):
    """A tool asks for the end of the agent, and will be there when the window for tools is open."""


def _readable():
    yield core._io_queue.queue_read(sys.stdin)


async def serve(describe):
    """Read lines until one asks for the end, and then raise End. `describe()` prints the answer to `who`."""
    waiting = select.poll()
    waiting.register(sys.stdin, select.POLLIN)
    line = bytearray()
    while True:
        await _readable()
        while waiting.poll(0):  # only as many octets as are there, as a read waits for the others
            octet = sys.stdin.buffer.read(1)
            if octet == b"\3":  # Ctrl-C, where it does not interrupt the program anyway
                raise KeyboardInterrupt
            if octet not in (b"", b"\n", b"\r"):
                if len(line) < (LINE_MAX_LISTENER if listener else LINE_MAX):
                    line += octet
                continue
            told, line = bytes(line), bytearray()
            if told == END:
                raise End
            if told == WHO:
                describe()
            elif listener and (told or not octet):
                listener(told)
            if not octet:
                return
