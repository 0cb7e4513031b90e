# The ESP32's `bluetooth`. A board without BOARD_BLE has no such radio: switching it on fails. With it, BOARD_BLE is the
# socket of an air, whose host has the Bluetooth stack, and `air_radio` passes calls and events.
from os import getenv

FLAG_READ, FLAG_WRITE_NO_RESPONSE, FLAG_WRITE, FLAG_NOTIFY, FLAG_INDICATE = 2, 4, 8, 16, 32


class UUID:
    def __init__(self, value):
        self.text = value if isinstance(value, str) else "%04x" % value


if getenv("BOARD_BLE"):
    from air_radio import BLE
else:

    class BLE:
        def active(self, on=None):
            if on:
                raise OSError(19)  # ENODEV
            return False
