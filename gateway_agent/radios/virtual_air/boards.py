"""The local socket by which virtual boards are on the air: `keycast/virtual_board/on_vm/air_radio.py` is its other end.

It is a Unix socket of the kind SEQPACKET, on which each message stays whole. The first octet of a message says what it
is. Numbers are little endian; `handle` is that of a characteristic, `connection` the number of a connection.

From a board: `H` version, address (6), loss (2, of 65,535), window and interval in which it listens (4 each, us, 0: no
limit); `M` MTU (2); `A` interval (4, us, 0: none), connectable (1), length (1), advert, scan response; `S` interval (4,
us, 0: none), window (4), duration (4, ms, 0: for ever); `G` services, one line for each service with its UUID and for
each characteristic with handle, flags and UUID; `V` handle (2), value; `N` connection (2), handle (2), value;
`D` connection (2); `W`: it has handled the oldest value that was written.

To a board, with the numbers of events of MicroPython's `bluetooth`: 1 and 2 connection (2), type of address (1),
address (6); 3 connection (2), handle (2), value; 5 type of address (1), address (6), kind of advert (1), RSSI (1),
advert; 6 nothing; 21 connection (2), MTU (2). And 0 with nothing: a notification has left.

A board that sends anything else, or does not read, is cut off or misses adverts, and no other one notices it.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from bumble import hci
from bumble.att import ATT_Error
from bumble.core import BaseBumbleError
from bumble.device import AdvertisingType, Connection, Device, LegacyAdvertiser
from bumble.gatt import Characteristic, CharacteristicValue, Service

from gateway_agent.radios.virtual_air.air import RSSI, AdvertPdu, Ear, VirtualAir
from gateway_agent.radios.virtual_air.controller import ADVERT_MAX, AirController

BOARDS_MAX = 2000
UNREAD_MAX = 64
"""Messages that are kept from and for a board, which is cut off beyond that. Adverts are not kept at all."""
UNANSWERED_MAX = 16
"""Values written by centrals that a board may not have handled yet; more of them are refused."""
_VERSION = 1
_MESSAGE_MAX = 2048
_SOCKET_OCTETS = 8192
_CONNECTED, _DISCONNECTED, _WRITTEN, _SCAN_RESULT, _SCAN_DONE, _MTU, _SENT = 1, 2, 3, 5, 6, 21, 0
_WRITES = 4 | 8
_INSUFFICIENT_RESOURCES = 0x11


class BoardSocket:
    """Lets virtual boards on `air` by the socket at `path`, which must be shorter than 108 octets."""

    def __init__(self, air: VirtualAir, path: Path) -> None:
        self.path = path
        self._air = air
        self._socket: socket.socket | None = None
        self._boards: set[_Board] = set()

    @property
    def boards(self) -> int:
        """How many boards are on the air."""
        return len(self._boards)

    def open(self) -> None:
        """Begin to listen. A socket at this path that a process has left behind is replaced.

        Raises OSError, also if another process has an air there.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            if probe.connect_ex(str(self.path)) == 0:
                raise OSError(errno.EADDRINUSE, f"another program has an air at {self.path}")
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen(128)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Take all boards off the air, and the socket away."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self.path.unlink(missing_ok=True)
        await asyncio.gather(*(board.close() for board in list(self._boards)))

    def _accept(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):
            line, _ = self._socket.accept()
            if len(self._boards) >= BOARDS_MAX:
                line.close()
                return
            self._boards.add(_Board(self._air, line, self._joined, self._boards.discard))

    def _joined(self, board: "_Board") -> None:
        """Take a board off the air that has the same address: it is the same one, before it was switched on again."""
        for other in list(self._boards):
            if other is not board and other.address == board.address:
                other.leave()


class _Malformed(Exception):
    """A board has sent what it must not send."""


class _BoardController(AirController):
    """The controller of a board, which reports adverts to the board itself, as there may be very many."""

    def __init__(self, air: VirtualAir, address: str, ear: Ear, heard: Callable[[AdvertPdu], None]) -> None:
        super().__init__(air, address, ear=ear)
        self._heard = heard

    def report(self, advert: AdvertPdu) -> None:
        self._heard(advert)


class _Board:
    """One board: its line, its controller, and Bumble's host with its services."""

    def __init__(
        self,
        air: VirtualAir,
        line: socket.socket,
        joined: Callable[["_Board"], None],
        ended: Callable[["_Board"], None],
    ) -> None:
        self.address = ""
        self._air = air
        self._line = line
        self._joined = joined
        self._ended = ended
        self._unsent: deque[bytes] = deque()
        self._controller: _BoardController | None = None
        self._device: Device | None = None
        self._characteristics: dict[int, Characteristic[bytes]] = {}
        self._connections: dict[int, Connection] = {}
        self._handled: deque[asyncio.Future[None]] = deque()
        self._scan_ends: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        line.setblocking(False)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_OCTETS)
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop.add_reader(line, self._readable)
        self._serving = self._loop.create_task(self._serve())

    def leave(self) -> None:
        """Take the board off the air, soon."""
        self._messages.put_nowait(b"")

    async def close(self) -> None:
        """Take the board off the air."""
        self.leave()
        await asyncio.wait([self._serving])

    # The line

    def _readable(self) -> None:
        try:
            message = self._line.recv(_MESSAGE_MAX)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if self._messages.qsize() >= UNREAD_MAX:
            message = b""
        if not message:
            self._loop.remove_reader(self._line)
        self._messages.put_nowait(message)

    def _send(self, message: bytes) -> None:
        if not self._unsent:
            try:
                self._line.send(message)
                return
            except BlockingIOError:
                self._loop.add_writer(self._line, self._writable)
            except OSError:  # the reader sees the end, too
                return
        if len(self._unsent) < UNREAD_MAX:
            self._unsent.append(message)
        else:
            self.leave()

    def _writable(self) -> None:
        try:
            while self._unsent:
                self._line.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        self._loop.remove_writer(self._line)

    async def _serve(self) -> None:
        try:
            await self._join(await self._messages.get())
            while message := await self._messages.get():
                await self._take(message)
        except (_Malformed, struct.error, ValueError, IndexError, BaseBumbleError):
            pass  # it is cut off
        finally:
            self._loop.remove_reader(self._line)
            self._loop.remove_writer(self._line)
            self._line.close()
            if self._scan_ends is not None:
                self._scan_ends.cancel()
            for task in self._tasks:
                task.cancel()
            for future in self._handled:
                future.cancel()
            if self._controller is not None:
                self._air.remove_controller(self._controller)
            self._ended(self)

    # What a board sends

    async def _join(self, hello: bytes) -> None:
        if len(hello) != 18 or hello[:2] != bytes([ord("H"), _VERSION]):
            raise _Malformed
        self.address = ":".join(f"{octet:02X}" for octet in hello[2:8])
        self._joined(self)
        loss, window_us, interval_us = struct.unpack("<HII", hello[8:])
        ear = Ear(loss / 65535, window_us / 1e6, interval_us / 1e6)
        self._controller = _BoardController(self._air, self.address, ear, self._heard)
        self._device = self._controller.device()
        self._device.on(Device.EVENT_CONNECTION, self._connected)
        await self._device.power_on()

    async def _take(self, message: bytes) -> None:
        assert self._controller is not None and self._device is not None
        kind, body = chr(message[0]), message[1:]
        if kind == "A":
            self._advertise(self._controller, self._device, body)
        elif kind == "S":
            self._scan(self._controller, *struct.unpack("<III", body))
        elif kind == "M":
            self._device.gatt_server.max_mtu = max(23, *struct.unpack("<H", body))
        elif kind == "G":
            self._register(self._device, body.decode())
        elif kind == "V":
            characteristic = self._characteristic(body)
            if not isinstance(characteristic.value, CharacteristicValue):  # what a central writes goes to the board
                characteristic.value = body[2:]
        elif kind == "N":
            characteristic = self._characteristic(body[2:])
            self._start(self._notify(self._device, body[0] | body[1] << 8, characteristic, body[4:]))
        elif kind == "D":
            (number,) = struct.unpack("<H", body)
            if connection := self._connections.get(number):
                self._start(self._disconnect(connection))
        elif kind == "W" and self._handled:
            handled = self._handled.popleft()
            if not handled.done():
                handled.set_result(None)
        else:
            raise _Malformed

    def _advertise(self, controller: AirController, device: Device, body: bytes) -> None:
        interval_us, connectable, length = struct.unpack_from("<IBB", body)
        data, response = body[6 : 6 + length], body[6 + length :]
        if len(data) != length or max(length, len(response)) > ADVERT_MAX:
            raise _Malformed
        controller.le_legacy_advertiser.stop()
        if interval_us:
            if connectable:  # Bumble's host looks there which address a central connects to
                device.legacy_advertiser = LegacyAdvertiser(
                    device,
                    AdvertisingType.UNDIRECTED_CONNECTABLE_SCANNABLE,
                    hci.OwnAddressType.PUBLIC,
                    hci.Address.ANY,
                    auto_restart=False,
                )
            controller.advertise(0 if connectable else 3, interval_us / 1e6, data, response)

    def _scan(self, controller: AirController, interval_us: int, window_us: int, duration_ms: int) -> None:
        if self._scan_ends is not None:
            self._scan_ends.cancel()
            self._scan_ends = None
        controller.le_scan_interval, controller.le_scan_window = interval_us // 625, window_us // 625
        controller.le_scan_enable = bool(interval_us)
        if interval_us and duration_ms:
            self._scan_ends = self._loop.call_later(duration_ms / 1000, self._scan_is_over, controller)

    def _scan_is_over(self, controller: AirController) -> None:
        controller.le_scan_enable = False
        self._send(bytes([_SCAN_DONE]))

    def _register(self, device: Device, text: str) -> None:
        services: list[tuple[str, list[Characteristic[bytes]]]] = []
        for line in text.split("\n"):
            if " " not in line:
                services.append((line, []))
                continue
            handle_text, flags_text, uuid = line.split(" ")
            handle, flags = int(handle_text), int(flags_text)
            value = CharacteristicValue[bytes](write=self._writer(handle)) if flags & _WRITES else b""
            one: Characteristic[bytes] = Characteristic(
                uuid,
                Characteristic.Properties(flags),
                Characteristic.READABLE | Characteristic.WRITEABLE,
                value,
            )
            self._characteristics[handle] = one
            services[-1][1].append(one)
        for uuid, characteristics in services:
            device.add_service(Service(uuid, characteristics))

    def _characteristic(self, body: bytes) -> Characteristic[bytes]:
        (handle,) = struct.unpack_from("<H", body)
        if handle not in self._characteristics:
            raise _Malformed
        return self._characteristics[handle]

    async def _notify(self, device: Device, number: int, to: Characteristic[bytes], value: bytes) -> None:
        if connection := self._connections.get(number):  # whether it has subscribed or not, as on the ESP32
            await device.notify_subscriber(connection, to, value, force=True)
            queue = device.host.le_acl_packet_queue
            assert queue is not None
            with contextlib.suppress(ValueError):  # the connection has ended
                await queue.drain(number)
        self._send(bytes([_SENT]))

    async def _disconnect(self, connection: Connection) -> None:
        with contextlib.suppress(hci.HCI_Error):
            await connection.disconnect()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What it gets

    def _heard(self, advert: AdvertPdu) -> None:
        if not self._unsent:
            sender = advert.advertiser_address
            head = bytes([_SCAN_RESULT, 1 if sender.is_random else 0]) + bytes(reversed(bytes(sender)))
            with contextlib.suppress(OSError):  # it does not read fast enough, or has just gone
                self._line.send(head + struct.pack("<Bb", advert.kind, RSSI) + advert.data)

    def _connected(self, connection: Connection) -> None:
        self._connections[connection.handle] = connection
        peer = connection.peer_address
        about = struct.pack("<HB", connection.handle, 1 if peer.is_random else 0) + bytes(reversed(bytes(peer)))

        def gone(reason: int) -> None:
            self._connections.pop(connection.handle, None)
            self._send(bytes([_DISCONNECTED]) + about)

        def mtu() -> None:
            self._send(struct.pack("<BHH", _MTU, connection.handle, connection.att_mtu))

        connection.on(Connection.EVENT_DISCONNECTION, gone)
        connection.on(Connection.EVENT_CONNECTION_ATT_MTU_UPDATE, mtu)
        self._send(bytes([_CONNECTED]) + about)

    def _writer(self, handle: int) -> Callable[[Connection, bytes], Awaitable[None]]:
        async def written(connection: Connection, value: bytes) -> None:
            if len(self._handled) >= UNANSWERED_MAX:
                raise ATT_Error(_INSUFFICIENT_RESOURCES)
            handled: asyncio.Future[None] = self._loop.create_future()
            self._handled.append(handled)
            self._send(struct.pack("<BHH", _WRITTEN, connection.handle, handle) + value)
            await handled

        return written
