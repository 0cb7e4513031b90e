# The parts of the ESP32's `machine` that the agent uses.
import sys
import time
from binascii import unhexlify
from os import getenv

RESET_CODE = 75  # exit code of a board that resets itself: the process that runs it must start it again
SOFT_RESET_CODE, SOFT_RESET_RAW_CODE = 76, 77  # the same, from the REPL for people and from the raw one
PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def unique_id():
    return unhexlify(getenv("BOARD_MAC") or "020000000001")


def end(code):
    import ffi

    ffi.open(None).func("v", "_exit", "i")(code)  # no `finally` runs, as on hardware


def reset():
    end(RESET_CODE)


def soft_reset():
    raise SystemExit


def reset_cause():
    return int(getenv("BOARD_RESET_CAUSE") or PWRON_RESET)


def freq(hz=None):
    return 240000000


class WDT:
    # Hardware resets a board that is not fed in time. Here the late feed does, or where a process outside starts the
    # board again (BOARD_STATE) an alarm of the system, which ends this process.
    def __init__(self, id=0, timeout=5000):
        self._timeout = timeout
        self._fed = time.ticks_ms()
        self._alarm = None
        if getenv("BOARD_STATE"):
            import ffi

            self._alarm = ffi.open(None).func("I", "alarm", "I")
            self.feed()

    def feed(self):
        now = time.ticks_ms()
        if self._alarm:
            self._alarm((self._timeout + 999) // 1000)
        elif time.ticks_diff(now, self._fed) > self._timeout:
            print("watchdog: not fed for", time.ticks_diff(now, self._fed), "ms", file=sys.stderr)
            reset()
        self._fed = now


def __getattr__(name):  # what most boards do not use would take heap, which a native module does not
    import pins

    return getattr(pins, name)
