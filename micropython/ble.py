"""The Bluetooth LE radio of a board, which is switched on after Wi-Fi and before large modules are imported.

It listens to adverts of the company id without a pause, and is a peripheral for one central. The handler of its events
runs in the task of the radio, between any two steps of the program, and may not allocate. It writes what came into
rings, of which the program moves the other end. An exception that left it would end all events until the next scan.

The record `ble` of the key store has the company id: CBOR `[1, company id]`. Without it this module is not imported.
"""

import asyncio
import struct

import bluetooth  # ImportError on a chip without such a radio

from cpns import cborlite

RECORD = "ble"
FORMAT = 1

SCAN_US = 100000  # both interval and window: beside Wi-Fi a shorter window loses what the other radio leaves
SCAN_AGAIN_MS = 30000  # scans have been seen that end without a word
OFFER_AGAIN_MS = 5000  # so does the offer when a connection cannot be established
TURN_MS = 500  # of the advert that offers a connection, and of each report
WANTED_US, OFFERED_US, REPORT_US = 100000, 1000000, 200000  # intervals of adverts
FAILURES_MAX = 20  # turns in which the radio refuses something, one after another; then it is switched off and on
MTU = 247  # a value is one packet of the link layer then, and a piece of the heap that is easily found

_CONNECTED, _DISCONNECTED, _WRITTEN, _SCANNED, _MTU_AGREED = 1, 2, 3, 5, 21
_WRITE, _NOTIFY = 0x0C, 0x10  # with and without response
_ENOMEM = 12
_ENOTCONN = 128  # as the ESP32 has it; in one octet with a sign it becomes -128

# Service, characteristic to the board, that from the board: `cpns.numbers` would take a kilobyte of heap for these
_SERVICE = "5cbf4203-6591-482f-bd77-d88cdb374332"
_TO_BOARD = "5cbf4204-6591-482f-bd77-d88cdb374332"
_FROM_BOARD = "5cbf4205-6591-482f-bd77-d88cdb374332"

_SIZE = 24  # octets of an advert behind the company id
_SLOTS = 16  # a power of 2; half a second of the fastest gateway
_REPEATED = 4  # adverts that a gateway sends in turn, each several times
_VALUES = 8  # a power of 2
_LOST = b"\2"  # no fragment begins so: what its datagram has lost is not missed by others


class BleRadio:
    """A ports.Bluetooth. `lost` counts adverts and values without room, `failures` calls that the radio refused."""

    def __init__(self, company):
        self._company = company
        self._ble = bluetooth.BLE()
        self._ring = bytearray(_SLOTS * _SIZE)
        self._put = self._taken = 0  # places of the ring, of which only the handler changes the first
        self._values = [None] * _VALUES  # None: a connection begins here
        self._values_put = self._values_taken = 0
        self._heard, self._written = asyncio.ThreadSafeFlag(), asyncio.ThreadSafeFlag()
        self._handles = 0, 0
        self._connection = self._former = None
        self._mtu = 23
        self._early = -1  # a connection of which no more than the MTU was told yet: connection << 16 | MTU
        self._wanted = False
        self._reports = []
        self._turn = 0
        self._on_air = None  # (interval, octets, connectable) of the present advert
        self.lost = self.failures = 0
        self.on = False

    def switch_on(self):
        """Switch the radio on and register the service, which allocates its memory at once. Raises OSError."""
        ble = self._ble
        ble.active(True)
        ble.config(mtu=MTU)
        ble.irq(self._event)
        uuid = bluetooth.UUID
        chars = (uuid(_TO_BOARD), _WRITE), (uuid(_FROM_BOARD), _NOTIFY)
        (self._handles,) = ble.gatts_register_services(((uuid(_SERVICE), chars),))
        ble.gatts_set_buffer(self._handles[0], MTU)  # one more than the longest value: what is longer is seen
        service = bytes(reversed([int(_SERVICE.replace("-", "")[at : at + 2], 16) for at in range(0, 32, 2)]))
        self._offer = b"\x02\x01\x06\x11\x07" + service + struct.pack("<BBH", 4, 0xFF, self._company)
        self.on = True

    @property
    def connected(self):
        return self._connection is not None

    @property
    def value_max(self):
        return min(self._mtu - 3, 512)

    async def advert(self):
        while self._taken == self._put:
            await self._heard.wait()
        at = self._taken * _SIZE
        octets = bytes(self._ring[at : at + _SIZE])
        self._taken = (self._taken + 1) % _SLOTS
        return octets

    async def value(self):
        while self._values_taken == self._values_put:
            await self._written.wait()
        value = self._values[self._values_taken]
        self._values[self._values_taken] = None
        self._values_taken = (self._values_taken + 1) % _VALUES
        return value

    def notify(self, value):
        connection = self._connection
        if connection is None:
            return False
        try:
            self._ble.gatts_notify(connection, self._handles[1], value)
        except OSError as error:
            if error.args[0] != _ENOMEM:
                self._drop(connection)
            return False
        return True

    def disconnect(self):
        self._drop(self._connection)

    def want(self, wanted):
        if wanted != self._wanted:
            self._wanted = wanted
            self._advertise()

    def report(self, adverts):
        self._reports = [struct.pack("<BBH", _SIZE + 3, 0xFF, self._company) + octets for octets in adverts]

    async def run(self):
        """Keep the radio listening and advertising, without end."""
        failures = before = 0
        while True:
            self._drop(self._former)
            if self._turn % (SCAN_AGAIN_MS // TURN_MS) == 0:
                self._scan()
            if self._turn % (OFFER_AGAIN_MS // TURN_MS) == 0 and not self.connected:
                self._on_air = None
            self._advertise()
            self._turn += 1
            failures = failures + 1 if self.failures != before else 0
            before = self.failures
            if failures == FAILURES_MAX:
                failures = self._turn = 0
                self._restart()
            await asyncio.sleep_ms(TURN_MS)

    def close(self):
        self.on = False
        self._ble.active(False)

    def _scan(self):
        try:
            self._ble.irq(self._event)
            self._ble.gap_scan(None)
            self._ble.gap_scan(0, SCAN_US, SCAN_US)  # passive
        except OSError:
            self.failures += 1

    def _advertise(self):
        reports, turn = self._reports, self._turn
        if reports and (self.connected or turn & 1):
            wanted = REPORT_US, reports[(turn >> 1) % len(reports)], False
        elif self.connected:
            wanted = None, None, False
        else:
            wanted = WANTED_US if self._wanted else OFFERED_US, self._offer + bytes((self._wanted,)), True
        if wanted == self._on_air:
            return
        self._on_air = wanted  # before the call: a connection, which ends advertising, may come at once
        try:
            self._ble.gap_advertise(wanted[0], wanted[1], connectable=wanted[2])
        except OSError:
            self._on_air = None
            self.failures += 1

    def _drop(self, connection):
        if connection is None:
            return
        try:
            ended = not self._ble.gap_disconnect(connection)
        except OSError as error:  # also if its end is under way, which must not last
            ended = abs(error.args[0]) == _ENOTCONN
            self.failures += not ended
        if not ended:
            return
        # The ESP32 tells of no end if the connection could not be established, of which the begin was told
        if connection == self._connection:
            self._connection = self._on_air = None
        elif connection == self._former:
            self._former = None

    def _restart(self):
        try:
            self._ble.active(False)
            self._connection = self._former = self._on_air = None
            self.switch_on()
        except (MemoryError, OSError):
            self.failures += 1

    # What the handler does

    # The firmware takes the frame of a function from the heap if that has more than 44 octets, 4 for each variable and
    # operand and 12 for a `try`. Hundreds of adverts a second would have the heap collected all the time. So the
    # functions that each advert runs through are small, and have no `try`.

    def _event(self, event, data):
        if event == _SCANNED:
            self._scanned(data[4])
        else:
            self._changed(event, data)

    def _scanned(self, octets):
        # The structures of an advert: length, type, and what may be a company id and ours. It may be of anybody
        size, at = len(octets) - _SIZE, 4
        while at <= size:
            ours = octets[at - 4] == _SIZE + 3 and octets[at - 3] == 0xFF
            if ours and octets[at - 2] | octets[at - 1] << 8 == self._company:
                self._keep(octets, at)
                return
            at += octets[at - 4] + 1

    def _keep(self, octets, at):
        put, other = self._put, 1
        while other <= _REPEATED:  # adverts look like random ones, so three octets tell them apart
            place = (put - other) % _SLOTS * _SIZE
            if (
                self._ring[place] == octets[at]
                and self._ring[place + 1] == octets[at + 1]
                and self._ring[place + 2] == octets[at + 2]
            ):
                return
            other += 1
        other = (put + 1) % _SLOTS
        if other == self._taken:
            self.lost += 1
            return
        put *= _SIZE
        place = 0
        while place < _SIZE:
            self._ring[put + place] = octets[at + place]
            place += 1
        self._put = other
        self._heard.set()

    def _changed(self, event, data):
        try:
            if event == _WRITTEN:
                if data[0] == self._connection and data[1] == self._handles[0]:
                    self._append(True)
            elif event == _CONNECTED:
                self._on_air = None
                if self._connection != data[0]:  # one too many, or one that has ended unseen
                    self._former = self._connection
                self._mtu = self._early & 0xFFFF if self._early >> 16 == data[0] else 23
                self._connection, self._early = data[0], -1
                self._append(False)
            elif event == _DISCONNECTED:
                self._on_air = None
                if data[0] == self._connection:
                    self._connection = None
                elif data[0] == self._former:
                    self._former = None
                if data[0] == self._early >> 16:
                    self._early = -1
            elif event == _MTU_AGREED:
                if data[0] == self._connection:
                    self._mtu = data[1]
                else:  # firmware that waits for the features of the central tells of the connection after this
                    self._early = data[0] << 16 | data[1]
        except Exception:  # noqa: BLE001 - an error would end all events
            self.lost += 1

    def _append(self, written):
        # A value, or the mark of a new connection. The last free place tells that some are missing
        put = self._values_put
        following = (put + 1) % _VALUES
        if following == self._values_taken:
            self.lost += 1
            return
        value = None
        if (following + 1) % _VALUES == self._values_taken:
            value = _LOST
        elif written:
            try:
                value = self._ble.gatts_read(self._handles[0])  # the one allocation, as there is no other way to it
            except MemoryError:
                value = _LOST
        if value is _LOST:
            self.lost += 1
        self._values[put] = value
        self._values_put = following
        self._written.set()


def switched_on(record):
    """Return the BleRadio of a record `ble`, switched on. Raises OSError, and ValueError for another format."""
    form, company = cborlite.decode(record)
    if form != FORMAT:
        raise ValueError("the ble record has an unknown format")
    radio = BleRadio(company)
    radio.switch_on()
    return radio
