# The ESP32's `machine`, as far as the agent uses it.
import sys
import time
from binascii import unhexlify
from os import getenv

RESET_CODE = 75  # exit code of a board that resets itself: whoever runs it starts it again
PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def unique_id():
    return unhexlify(getenv("BOARD_MAC") or "020000000001")


def reset():
    import ffi

    ffi.open(None).func("v", "_exit", "i")(RESET_CODE)  # as the hardware: no `finally` runs


def reset_cause():
    return int(getenv("BOARD_RESET_CAUSE") or PWRON_RESET)


def freq(hz=None):
    return 240000000


class WDT:
    # The hardware resets the board when it is not fed in time. Here the feed that comes too late does.
    def __init__(self, id=0, timeout=5000):
        self._timeout = timeout
        self._fed = time.ticks_ms()

    def feed(self):
        now = time.ticks_ms()
        if time.ticks_diff(now, self._fed) > self._timeout:
            print("watchdog: not fed for", time.ticks_diff(now, self._fed), "ms", file=sys.stderr)
            reset()
        self._fed = now


if getenv("BOARD_IDF_HEAP"):  # else they would take heap that a native module does not take
    import idf_heap

    class Pin:
        IN = 1

        def __init__(self, number, mode=None):
            pass

    class UART:
        # As far as memory goes: its receive buffer is a block that the Python heap does not get.
        def __init__(self, number, baudrate=115200, *, tx=None, rx=None, rxbuf=256):
            if getenv("BOARD_NO_UART"):  # as where none is left
                raise ValueError("UART(%d) does not exist" % number)
            if not idf_heap.take(rxbuf):
                raise OSError(-0x101, "ESP_ERR_NO_MEM")
            self._rxbuf = rxbuf

        def deinit(self):
            idf_heap.give(self._rxbuf)
            self._rxbuf = 0
