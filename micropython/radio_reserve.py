"""The UART in whose receive buffer memory is held back for the radio. The module leaves the heap after the start.

A UART drives its TX pin, to which a device may be connected. So the pins are inputs whose state the chip holds while
the UART is made, and inputs again when that hold ends.
"""

import sys

import machine

BAUD = 57603  # an odd rate, which tells our use of the UART from others
# Chip, as MicroPython names it -> (UART, tx, rx), if the board is not known: pins that no module with this chip needs
# for its memory, its start, its USB or its console. A chip that is named otherwise may have its memory on any pin.
_FREE = {
    "ESP32": (2, 33, 33),
    "ESP32S3": (2, 21, 21),
    "ESP32C3": (1, 10, 10),
    "ESP32C6": (1, 23, 23),
}


def reserve(uart, octets):
    """Return a machine.UART that holds `octets`, or None. `uart` is [number, tx, rx], or [] if the board is unknown."""
    sys.modules.pop("radio_reserve", None)
    uart = uart or _FREE.get(sys.implementation._machine.split(" ")[-1])
    if not uart:
        return None
    number, tx, rx = uart
    try:
        pins = [machine.Pin(pin, machine.Pin.IN, None, hold=True) for pin in {tx, rx}]
        reserved = None
        try:
            reserved = machine.UART(number, BAUD, tx=tx, rx=rx, rxbuf=octets)
        finally:
            for pin in pins:
                pin.init(machine.Pin.IN, None, hold=False)
    except (AttributeError, OSError, ValueError):  # there is no such UART, or it cannot use these pins
        return None
    return reserved
