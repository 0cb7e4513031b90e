"""A ports.Bluetooth that does what a test says, for the link and the medium of Bluetooth LE."""

import asyncio


class ScriptedRadio:
    """`sent` are the values that it took from the board, `wants` whether it advertises so, `room` for more values."""

    on = True
    connected = False
    value_max = 20

    def __init__(self):
        self.sent = []
        self.wants = False
        self.room = 1000
        self.reported = []
        self.closed = self.disconnected = 0
        self._values = []
        self._adverts = []

    def connect(self):
        """A central connects."""
        self.connected = True
        self.write(None)

    def write(self, value):
        self._values.append(value)

    def air(self, octets):
        self._adverts.append(octets)

    async def value(self):
        return await self._next(self._values)

    async def advert(self):
        return await self._next(self._adverts)

    async def _next(self, items):
        while not items:
            await asyncio.sleep(0)  # an Event belongs to one event loop, and a test may have several
        return items.pop(0)

    def want(self, wanted):
        self.wants = wanted

    def report(self, adverts):
        self.reported = adverts

    def notify(self, value):
        if not self.room or not self.connected:
            return False
        self.room -= 1
        self.sent.append(value)
        return True

    def disconnect(self):
        self.disconnected += 1
        self.connected = False

    def close(self):
        self.closed += 1
