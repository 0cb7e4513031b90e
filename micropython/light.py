"""The light of a board, which shows its state by long and short blinks (docs/board_start.md)."""

import machine

LONG_MS, SHORT_MS, DARK_MS, GAP_MS, PAUSE_MS = 700, 150, 250, 600, 2000
_WS2812 = 400, 850, 800, 450  # ns
_DIM = b"\x10\x10\x10"


class Light:
    """The light on `pin` (-1 for none), of a kind of `board_record`."""

    def __init__(self, pin, kind):
        self._rgb = kind == "rgb"
        self._off = kind == "inverted"
        self._pin = machine.Pin(pin, machine.Pin.OUT) if pin >= 0 else None

    def switch(self, on):
        """Switch the light on or off."""
        if self._pin is None:
            return
        if self._rgb:
            machine.bitstream(self._pin, 0, _WS2812, _DIM if on else bytes(3))
        else:
            self._pin.value(on ^ self._off)


def rhythm(longs, shorts):
    """Yield (ms on, ms off) of each blink of one round."""
    for _ in range(longs):
        yield LONG_MS, DARK_MS
    if longs:
        yield 0, GAP_MS
    for _ in range(shorts):
        yield SHORT_MS, DARK_MS
    yield 0, PAUSE_MS
