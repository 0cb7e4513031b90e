"""Memory for the radio, held back from the Python heap until the radio needs it.

On an ESP32 without PSRAM the Python heap grows out of the memory in which Wi-Fi makes its buffers, and when it grows it
takes the largest block there is: then nothing is received any more. So a part of that memory is held before large
modules are imported, and released when the largest block left to the radio gets small: the heap has grown beside it.

The memory is held as the receive buffer of an unused UART. Its TX pin is made an input again at once. An application
that uses the same UART takes it over, and the memory with it.
"""

HOLD = 16384  # octets
NEEDED = 8192  # octets in one piece that the radio must have left while HOLD is held
ALARM = 4096  # octets in one piece; below it datagrams are lost
_PLENTY = 262144  # octets: no ESP32 without PSRAM has more
_BAUD = 57603  # an odd rate, which tells our use of the UART from others
# (UART, tx, rx), with the firmware's default pins. The first UART that exists is used. UART 1 shares its pins with the
# flash on some ESP32 modules, UART 2 with the PSRAM on others, where no memory is held.
_UARTS = ((2, 17, 16), (1, 10, 9))


def largest():
    """Return the octets of the largest block that Wi-Fi could have now, or None if the firmware does not tell."""
    try:
        import esp32

        return max([block[2] for block in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError, ValueError):
        return None


class RadioMemory:
    """Memory held back. `lowest` is the smallest "largest block" seen, in octets, while none was held, or None."""

    def __init__(self):
        self.lowest = None
        self._uart = self._taken = None
        self._low = False

    @property
    def held(self):
        """True while memory is held back."""
        return self._uart is not None

    def hold(self):
        """Hold HOLD octets back, unless memory is plenty, too little or unknown, or there is no free UART."""
        left = largest()
        if left is None or not HOLD + NEEDED < left < _PLENTY:
            return
        import machine

        for number, tx, rx in _UARTS:
            try:
                uart = machine.UART(number, _BAUD, tx=tx, rx=rx, rxbuf=HOLD)
            except (AttributeError, OSError, ValueError):  # there is no such UART, or it cannot use these pins
                continue
            machine.Pin(tx, machine.Pin.IN)  # a UART drives its TX pin, and a device may be connected to it
            self._uart, self._taken = uart, str(uart)
            return

    def release(self):
        """Release the memory that is held."""
        uart, self._uart = self._uart, None
        if uart and str(uart) == self._taken:  # otherwise an application has taken the UART over
            uart.deinit()

    def check(self):
        """Release the memory if the radio gets short of it, and print a line if that was not enough."""
        left = largest()
        if left is None:
            return
        if self._uart and left < NEEDED:
            self.release()
            left = largest()
        if self._uart:
            return
        if self.lowest is None or left < self.lowest:
            self.lowest = left
        if left < ALARM and not self._low:
            print("the radio is short of memory: %d octets in one piece, it needs %d" % (left, ALARM))
        self._low = left < ALARM or (self._low and left < NEEDED)


memory = RadioMemory()
