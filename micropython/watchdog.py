"""The hardware watchdog, fed by the event loop: a board whose loop stands still starts anew."""

import asyncio

import machine

TIMEOUT_MS = 30000  # longer than any computation between two turns of the loop, by a factor of a hundred


class Watchdog:
    """Starts the watchdog; it cannot be stopped again before the next reset."""

    def __init__(self, timeout_ms=TIMEOUT_MS):
        self._dog = machine.WDT(timeout=timeout_ms)
        self._pause = timeout_ms // 10

    async def feed_while_running(self):
        while True:
            self._dog.feed()
            await asyncio.sleep_ms(self._pause)
