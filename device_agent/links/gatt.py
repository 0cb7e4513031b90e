"""GATT as a link: one connection, which the PN GW makes when this board advertises that it wants one.

    fragment = 00 (more follow) or 01 (the last one) ‖ octets of the datagram (docs/protocol.md, "GATT")

The other end is whichever central has connected; the session shows whether it is the PN GW. So all peers have one
address. A board is not told when a central has subscribed. It sends nothing before the central has written to it, for
which an empty last fragment is enough, or has had its time for that.
"""

import asyncio

from device_agent import tuning

ADDRESS = "gatt"
_MORE, _LAST = 0, 1
_TICK_S = 0.05


def fragment(datagram, at, value_max):
    """Return the fragment of `datagram` that begins with its octet `at`, and has at most `value_max` octets."""
    end = at + value_max - 1
    return bytes((_LAST if end >= len(datagram) else _MORE,)) + datagram[at:end]


class Joining:
    """The datagram of which fragments come in. `dropped` counts those that were malformed or found no room."""

    def __init__(self):
        self.dropped = 0
        self._skipping = False
        self.begin()

    def begin(self):
        """Forget the fragments that have come, as a new connection begins."""
        self._pieces = []
        self._left = tuning.DATAGRAM_MAX
        self._skipping = False

    def take(self, value, value_max):
        """Take the next value that was written, at most `value_max` octets; return the datagram if it is whole now.

        It returns None otherwise. A malformed value drops everything up to the next last fragment.
        """
        if not self._skipping:
            self._left -= len(value) - 1
            if not value or value[0] > _LAST or len(value) > value_max or self._left < 0 or value == bytes((_MORE,)):
                self._skipping = True
                self._pieces = []
                self.dropped += 1
            else:
                self._pieces.append(value[1:])
        if value[:1] != bytes((_LAST,)):
            return None
        pieces, skipped = self._pieces, self._skipping
        self.begin()
        if skipped:
            return None
        try:
            return b"".join(pieces) or None
        except MemoryError:
            self.dropped += 1
            return None


class GattLink:
    """A ports.Link on `radio`, a ports.Bluetooth. `dropped` counts datagrams that were not sent."""

    def __init__(self, radio, clock):
        self._radio = radio
        self._clock = clock
        self._queue = []  # (datagram, time in ms)
        self._joining = Joining()
        self._open = False  # the central may have subscribed
        self._begun = None  # when the connection was noticed, or the last datagram came
        self._last = None  # hash of the datagram that was sent last on this connection
        self._repeats = 0
        self.dropped = 0

    def address(self, text):
        if text != ADDRESS:
            raise ValueError("not the address of this link")
        return text

    def text(self, address):
        return ""  # the gateway is found by its connecting, not by an address

    def up(self):
        return self._radio.on

    def standing(self):
        return self._open and self._radio.connected

    def send(self, address, datagram):
        for queued, _ in self._queue:
            if queued == datagram:
                return  # it is repeated as no answer came, while it waits for a connection
        if len(self._queue) == tuning.GATT_QUEUE_MAX:
            self._queue.pop(0)
            self.dropped += 1
        self._queue.append((datagram, self._clock.now()))

    def ask_all(self, datagram):
        self.send(ADDRESS, datagram)

    async def recv(self):
        while True:
            value = await self._radio.value()
            if value is None:
                self._open, self._begun, self._last = False, None, None
                self._joining.begin()
                continue
            self._open = True
            datagram = self._joining.take(value, self._radio.value_max)
            if datagram:
                self._begun = self._clock.now()
                return ADDRESS, datagram
            await asyncio.sleep(0)  # a flood of fragments never waits

    async def changed(self):
        """Do the work of the link until the radio goes on or off, as the agent always awaits this."""
        on = self._radio.on
        while self._radio.on == on:
            await self._tend()
            await asyncio.sleep(_TICK_S)

    async def _tend(self):
        radio = self._radio
        now = self._clock.now()
        while self._queue and now - self._queue[0][1] >= tuning.CONNECTING:
            self._queue.pop(0)
            self.dropped += 1
        if not radio.connected:
            self._open, self._begun, self._last = False, None, None
            radio.want(bool(self._queue))
            return
        if self._begun is None:
            self._begun = now
        silent = now - self._begun
        if silent > tuning.GATT_SILENT:  # a stranger may hold the connection
            radio.disconnect()
        elif self._open or silent > tuning.GATT_SUBSCRIBING:
            self._open = True
            while self._queue and radio.connected:
                item = self._queue[0]
                if await self._sent(item[0]) and item in self._queue:
                    self._queue.remove(item)
                    self._count(hash(item[0]))

    def _count(self, sent):
        # A stranger that sends datagrams is not silent, but it cannot answer what is asked
        self._repeats = self._repeats + 1 if sent == self._last else 0
        self._last = sent
        if self._repeats == tuning.GATT_REPEATS:
            self._radio.disconnect()

    async def _sent(self, datagram):
        # Return True when the radio has all fragments. A connection that has no room for them is ended
        radio = self._radio
        until = self._clock.now() + tuning.GATT_STALLED
        at = 0
        while at < len(datagram):
            if not radio.connected:
                return False
            room = radio.value_max
            if radio.notify(fragment(datagram, at, room)):
                at += room - 1
            elif self._clock.now() > until:
                radio.disconnect()
                return False
            else:
                await asyncio.sleep(_TICK_S)
        return True

    def close(self):
        self._radio.close()
