# The ESP32's pins, and what is driven through them. BOARD_PINS is a folder: the last character of the file with a pin's
# number is its level, "1" without a file; levels that the board sets are appended there.
from os import getenv

from vfs import VfsPosix

_open = VfsPosix("").open  # of the host, whatever the board has mounted
_FOLDER = getenv("BOARD_PINS")


class Pin:
    IN, OUT = 1, 3
    PULL_UP = 2

    def __init__(self, number, mode=None, pull=-1, *, hold=None):
        self._path = "%s/%d" % (_FOLDER, number)

    def init(self, mode=None, pull=-1, *, hold=None):
        pass

    def value(self, level=None):
        if level is not None:
            if _FOLDER:
                with _open(self._path, "a") as file:
                    file.write("%d" % level)
            return None
        try:
            with _open(self._path, "r") as file:
                return int(file.read()[-1])
        except OSError:
            return 1


def bitstream(pin, encoding, timing, octets):
    pin.value(any(octets))


class UART:
    # Only its memory is simulated: the receive buffer is a block that the Python heap does not get.
    def __init__(self, number, baudrate=115200, *, tx=None, rx=None, rxbuf=256):
        import idf_heap

        if getenv("BOARD_NO_UART"):  # as if none were left
            raise ValueError("UART(%d) does not exist" % number)
        if not idf_heap.take(rxbuf):
            raise OSError(-0x101, "ESP_ERR_NO_MEM")
        self._rxbuf = rxbuf

    def deinit(self):
        import idf_heap

        idf_heap.give(self._rxbuf)
        self._rxbuf = 0
