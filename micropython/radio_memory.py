"""Memory for the radio, held back from the Python heap until the radio needs it.

On an ESP32 without PSRAM the Python heap grows out of the memory in which Wi-Fi makes its buffers, and when it grows it
takes the largest block there is: then nothing is received any more. So a part of that memory is held before large
modules are imported, and released when the largest block left to the radio gets small: the heap has grown beside it.

The memory is held as the receive buffer of an unused UART, on pins that it cannot drive. An application that uses the
same UART takes it over, and the memory with it.
"""

HOLD = 16384  # octets
NEEDED = 8192  # octets in one piece that the radio must have left while HOLD is held
ALARM = 4096  # octets in one piece; below it datagrams are lost
_PLENTY = 262144  # octets: no ESP32 without PSRAM has more


def largest():
    """Return the octets of the largest block that Wi-Fi could have now, or None if the firmware does not tell."""
    try:
        import esp32

        return max([block[2] for block in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError, ValueError):
        return None


class RadioMemory:
    """Memory held back. `lowest` is the smallest "largest block" seen, in octets, while none was held, or None.

    `low` is True from when the radio has less than ALARM until it has NEEDED again.
    """

    def __init__(self):
        self.lowest = None
        self._uart = self._taken = None
        self.low = False

    @property
    def held(self):
        """True while memory is held back."""
        return self._uart is not None

    def hold(self, uart):
        """Hold HOLD octets back in `uart`, [number, tx, rx], or [] for one that is known to be free on this chip.

        It does nothing if memory is plenty, too little or unknown, or if there is no such UART.
        """
        left = largest()
        if left is None or not HOLD + NEEDED < left < _PLENTY:
            return
        from radio_reserve import reserve

        self._uart = reserve(uart, HOLD)
        self._taken = str(self._uart)

    def release(self):
        """Release the memory that is held."""
        uart, self._uart = self._uart, None
        if uart and str(uart) == self._taken:  # otherwise an application has taken the UART over
            uart.deinit()

    def check(self):
        """Release the memory if the radio gets short of it, and note if that was not enough."""
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
        self.low = left < ALARM or (self.low and left < NEEDED)


memory = RadioMemory()
