"""Memory for the radio, held back from the Python heap until the radio needs it.

On an ESP32 without PSRAM the Python heap grows out of the memory in which Wi-Fi makes its buffers, and when it grows it
takes the largest block there is: then nothing is received any more. So a part of that memory is held before anything
large is imported, and given back when the largest block left to the radio gets small: the heap has grown beside it.

What is held is the receive buffer of a UART that nobody uses. Its TX pin is at rest again at once. An application that
wants that very UART takes it, and the memory with it.
"""

HOLD = 16384  # octets
NEEDED = 8192  # the least that is left to the radio in one piece while HOLD is held
ALARM = 4096  # octets in one piece; below it datagrams are lost
_PLENTY = 262144  # octets: more than that has no ESP32 without PSRAM
_BAUD = 57603  # whose UART it is can be told by it
# UART: (tx, rx), as the firmware has them by default. The first there is: the pins of UART 1 are the flash's on some
# ESP32 modules, those of UART 2 the PSRAM's on others, which are left alone.
_UARTS = ((2, 17, 16), (1, 10, 9))


def largest():
    """Octets of the largest block that Wi-Fi could have now; None where the firmware does not tell."""
    try:
        import esp32

        return max([block[2] for block in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError, ValueError):
        return None


class RadioMemory:
    """`lowest`: octets of the smallest "largest block" seen while nothing was held, None before or if it is unknown."""

    def __init__(self):
        self.lowest = None
        self._uart = self._taken = None
        self._low = False

    @property
    def held(self):
        """True while memory is held back."""
        return self._uart is not None

    def hold(self):
        """Hold HOLD octets back, unless the board has plenty, or no UART or no way to watch the memory."""
        left = largest()
        if left is None or not HOLD + NEEDED < left < _PLENTY:
            return
        import machine

        for number, tx, rx in _UARTS:
            try:
                uart = machine.UART(number, _BAUD, tx=tx, rx=rx, rxbuf=HOLD)
            except (AttributeError, OSError, ValueError):  # there is none, or it is of a kind that takes no such pins
                continue
            machine.Pin(tx, machine.Pin.IN)  # a UART's TX drives its pin, and something may be connected
            self._uart, self._taken = uart, str(uart)
            return

    def release(self):
        """Give back what is held."""
        uart, self._uart = self._uart, None
        if uart and str(uart) == self._taken:  # else an application has made it its own
            uart.deinit()

    def check(self):
        """Look at what the radio has: give back what is held when it gets short, and say when that was not enough."""
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
