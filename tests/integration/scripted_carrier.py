"""Bluetooth in memory, for tests of the GATT link: no radio, no program and no library has a part in it.

A `Room` is what all radios in it hear of each other. A `RoomLink` is the product's link with such a radio. It is at
both ends, so that the tests of the message plane run over it: where one end connects, the other connects back, and both
share one connection. A `PeripheralLink` is a board's end instead: it advertises while it has something to send, and
waits. A board that misbehaves is a `ScriptedBoard`.
"""

import asyncio
import itertools

from message_plane import tuning
from message_plane.errors import PortInUse
from message_plane.links.fragments import NOTHING, Joiner, cut
from message_plane.links.gatt import GattAddress, GattLink
from message_plane.links.link import Link


class Room:
    """The radios by Bluetooth address. `connect_s`: seconds that connecting takes; `value_max`: of all connections."""

    def __init__(self, connect_s=0.0, value_max=244):
        self.connect_s = connect_s
        self.value_max = value_max
        self.radios = {}
        self._numbers = itertools.count(1)

    def address(self, host, number):
        """A Bluetooth address for a (host, number) of the tests, whose last two octets are both of them."""
        number = number or next(self._numbers)
        octets = [*host.split("."), *divmod(number, 100)] if "." in host else [*host.split(":"), number]
        return ":".join(f"{int(octet) % 100:02d}" for octet in octets)


class RoomLink(GattLink):
    """The product's link, whose radio hears every other radio of the room at any time."""

    def __init__(self, room, address, **options):
        super().__init__(self, **options)
        self.room = room
        self.address = address
        self.values = []  # written by this end
        self._ends = {}
        self._is_open = False

    @property
    def places(self):
        return [f"gatt:{self.address}"] if self._is_open else []

    async def open(self, receive):
        if self.address in self.room.radios:
            raise PortInUse("two radios with one address")
        await super().open(receive)
        self.room.radios[self.address] = self
        self._is_open = True

    def send(self, address, datagram):
        super().send(address, datagram)
        if address.bluetooth in self.room.radios:
            self.advertised(address.bluetooth, False)

    async def close(self):
        if self._is_open:
            self._is_open = False
            del self.room.radios[self.address]
        await super().close()

    # Its carrier

    async def connect(self, address, received, lost):
        await asyncio.sleep(self.room.connect_s)
        peer = self.room.radios.get(address)
        if peer is None:
            raise OSError("nobody has this address")
        if isinstance(peer, PeripheralLink):
            return PeripheralEnd(peer.accept(received, lost))
        end = self._ends.get(address)
        if end is None:
            end, other = End(self, peer), End(peer, self)
            end.other, other.other = other, end
            self._ends[address], peer._ends[self.address] = end, other
            peer.advertised(self.address, True)
        end.attach(received, lost)
        return end


class End:
    """One end of a connection in the room. What comes before the link has connected waits."""

    def __init__(self, link, peer):
        self.link = link
        self.peer = peer
        self.value_max = link.room.value_max
        self.other = None
        self._received = None
        self._lost = None
        self._early = []

    def attach(self, received, lost):
        self._received, self._lost = received, lost
        for value in self._early:
            received(value)
        self._early.clear()

    def deliver(self, value):
        if self._received is not None:
            self._received(value)
        else:
            self._early.append(value)

    async def write(self, value):
        if self.link._ends.get(self.peer.address) is not self:
            raise OSError("the connection is lost")
        assert 1 <= len(value) <= self.value_max
        self.link.values.append(value)
        asyncio.get_running_loop().call_soon(self.other.deliver, bytes(value))

    async def close(self):
        for end in (self, self.other):
            if end.link._ends.get(end.peer.address) is end:
                del end.link._ends[end.peer.address]
                if end is self.other and end._lost is not None:
                    end._lost()


class PeripheralLink(Link):
    """The end of a board, which advertises to `central` ten times a second that it wants a connection, while it has
    something to send and no connection."""

    scheme = "gatt"
    datagram_max = tuning.GATT_DATAGRAM_MAX

    def __init__(self, room, address, central):
        self.value_max = room.value_max
        self._room = room
        self._address = address
        self._central = central
        self._waiting = []
        self._connection = None  # functions of the central: received, lost
        self._advertising = None

    @property
    def places(self):
        return [f"gatt:{self._address}"]

    async def open(self, receive):
        self._receive = receive
        self._room.radios[self._address] = self
        self._advertising = asyncio.create_task(self._advertise())

    def send(self, address, datagram):
        self._waiting = [*self._waiting[-3:], datagram]
        if self._connection is not None:
            asyncio.get_running_loop().call_soon(self._flush)

    async def find(self, place):
        return GattAddress(self, place.removeprefix("gatt:"))

    async def close(self):
        if self._advertising is not None:
            self._advertising.cancel()
            del self._room.radios[self._address]
            if self._connection is not None:
                self._connection[1]()
                self._connection = None

    def accept(self, received, lost):
        if self._connection is not None:
            raise OSError("it is connected, and advertises no more")
        self._connection = received, lost
        self._joiner = Joiner(self.datagram_max, self.value_max)
        return self, self._connection

    def written(self, value, connection):
        """Take a value that the central has written."""
        if self._connection is not connection:
            raise OSError("the connection is lost")
        datagram = self._joiner.take(value)
        if datagram is not None:
            self._receive(datagram, GattAddress(self, self._central))
        self._flush()

    def leave(self, connection):
        """The central has ended the connection."""
        if self._connection is connection:
            self._connection = None

    def _flush(self):
        while self._waiting and self._connection is not None:
            for value in cut(self._waiting.pop(0), self.value_max):
                self._connection[0](value)

    async def _advertise(self):
        while True:
            central = self._room.radios.get(self._central)
            if central is not None and self._connection is None:
                central.advertised(self._address, bool(self._waiting))
            await asyncio.sleep(0.1)


class PeripheralEnd:
    """The central's end of a connection to a PeripheralLink."""

    def __init__(self, accepted):
        self._peripheral, self._connection = accepted
        self.value_max = self._peripheral.value_max

    async def write(self, value):
        self._peripheral.written(value, self._connection)

    async def close(self):
        self._peripheral.leave(self._connection)


class ScriptedRadio:
    """A carrier whose boards do as they are told. `began`: (time, address) of each attempt to connect."""

    def __init__(self):
        self.boards = {}
        self.began = []

    def board(self, address, **options):
        board = self.boards[address] = ScriptedBoard(address, **options)
        return board

    @property
    def connected(self):
        """The addresses of the boards with a connection."""
        return {board.address for board in self.boards.values() if board.is_connected}

    async def connect(self, address, received, lost):
        self.began.append((asyncio.get_running_loop().time(), address))
        board = self.boards.get(address)
        if board is None:
            await asyncio.Event().wait()
        return await board.connected(received, lost)


class ScriptedBoard:
    """A peripheral. `connect_s`: how long connecting to it takes; `stalls`: it acknowledges no value; `refuses`: nobody
    can connect to it; `answer`: called with each value that it gets, returns the values that it sends then."""

    def __init__(self, address, *, connect_s=0.4, value_max=244, stalls=False, refuses=False, answer=lambda value: ()):
        self.address = address
        self.connect_s = connect_s
        self.value_max = value_max
        self.stalls = stalls
        self.refuses = refuses
        self.answer = answer
        self.got = []
        self.connections = 0
        self.is_connected = False
        self.received = self._lost = None

    async def connected(self, received, lost):
        await asyncio.sleep(self.connect_s)
        if self.refuses:
            raise OSError("it does not answer")
        self.received, self._lost, self.is_connected = received, lost, True
        self.connections += 1
        return self

    def leave(self):
        """End the connection from the board's side."""
        self.is_connected = False
        self._lost()

    async def write(self, value):
        if self.stalls:
            await asyncio.Event().wait()
        if not self.is_connected:
            raise OSError("the connection is lost")
        await asyncio.sleep(0.02)
        if value == NOTHING:
            return
        self.got.append(value)
        for answer in self.answer(value):
            self.received(answer)

    async def close(self):
        self.is_connected = False
