"""Open the serial port of a board."""

import errno
import time
from typing import Any

BAUD = 115200
"""The speed of the UART of MicroPython's REPL and of our status lines; the chip's own USB has none."""

LOCKED_S = 2.0
"""How long a port may be locked. A program that this one has just started, such as esptool for another board, holds
the open files of all threads until it runs its own code."""


def opened(device: str, timeout_s: float) -> Any:
    """Return the open `serial.Serial` of a board's port, whose reads wait for at most `timeout_s` seconds.

    The lines DTR and RTS are left as the system sets them, both active: a board with a USB-to-UART bridge is not reset
    by that, as its circuit wants two different levels, and MicroPython with the chip's own USB writes only while DTR is
    active. No other program can open the port meanwhile. Raises OSError, after LOCKED_S if another program has it.
    """
    import serial

    until = time.monotonic() + LOCKED_S
    while True:
        try:
            return serial.Serial(device, BAUD, timeout=timeout_s, write_timeout=10, exclusive=True)
        except OSError as error:
            if error.errno != errno.EAGAIN or time.monotonic() > until:
                raise
        time.sleep(0.05)
