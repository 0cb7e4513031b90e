# A board without a Bluetooth radio: the module is there, switching it on fails as on such a board.
class BLE:
    def active(self, on=None):
        if on:
            raise OSError(19)  # ENODEV
        return False
