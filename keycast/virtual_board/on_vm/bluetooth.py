# MicroPython's `bluetooth` on a board without such a radio: switching it on fails.
class BLE:
    def active(self, on=None):
        if on:
            raise OSError(19)  # ENODEV
        return False
