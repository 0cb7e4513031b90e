"""Connections to boards by bluetoothd and the library bleak: it implements `message_plane.links.gatt.Carrier`.

Nothing is paired or bonded: boards have no secret for it, and EDHOC and OSCORE protect what is carried.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable

from bleak import BleakClient
from bleak.args.bluez import BlueZClientArgs
from bleak.backends.characteristic import BleakGATTCharacteristic

from cpns import numbers
from gateway_agent.radios.bleak_scanner import FAULTS, BluezScanner, in_words

VALUE_MAX = 512
"""BlueZ negotiates an MTU of 517 and refuses longer values."""
DISCONNECT_S = 10.0
AGAIN_S = 0.5
"""Seconds from one scan to the next while a connection is being made."""
_VALUE_MIN = 20


class BluezCarrier:
    """The central role of an adapter, beside its scanner, which knows the devices that can be connected to."""

    def __init__(self, scanner: BluezScanner) -> None:
        self._scanner = scanner

    async def connect(
        self, address: str, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> "BluezConnection":
        """Connect to a board that was heard, and find its service. Raises OSError."""
        device = self._scanner.device(address)
        if device is None:
            raise OSError(errno.EHOSTUNREACH, "the board was not heard")
        connection = BluezConnection(received, lost)
        options: BlueZClientArgs = {"adapter": self._scanner.adapter} if self._scanner.adapter else {}
        client = BleakClient(device, connection.disconnected, services=[numbers.BLE_SERVICE], bluez=options)
        scanning = asyncio.get_running_loop().create_task(self._scan_again())
        try:
            await client.connect()  # what is half connected when this fails or is cancelled it disconnects by itself
        except FAULTS as fault:
            raise OSError(errno.EIO, in_words(fault, "the adapter")) from fault
        finally:
            scanning.cancel()
        try:
            await connection.begin(client)
        except BaseException as fault:
            await connection.end(client)
            if isinstance(fault, FAULTS):
                raise OSError(errno.EIO, in_words(fault, "the adapter")) from fault
            raise
        return connection

    async def _scan_again(self) -> None:
        """Begin the scan anew, again and again, once bluetoothd has been asked to connect."""
        while True:
            await asyncio.sleep(AGAIN_S)
            self._scanner.again()


class BluezConnection:
    """Implements `message_plane.links.gatt.BoardConnection`. Made by `BluezCarrier.connect` only."""

    def __init__(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self.value_max = _VALUE_MIN
        self._received = received
        self._lost = lost
        self._client: BleakClient | None = None  # while the connection stands
        self._to_board: BleakGATTCharacteristic | None = None

    async def begin(self, client: BleakClient) -> None:
        """Find the two characteristics and subscribe. Raises one of FAULTS."""
        to_board = client.services.get_characteristic(numbers.BLE_TO_BOARD)
        from_board = client.services.get_characteristic(numbers.BLE_FROM_BOARD)
        if to_board is None or from_board is None:
            raise OSError(errno.ENOPROTOOPT, "the device has no service of boards")
        self.value_max = min(max(to_board.max_write_without_response_size, _VALUE_MIN), VALUE_MAX)
        self._to_board = to_board
        self._client = client
        # By a socket, which keeps values apart and in order; a property of D-Bus may change twice and tell once
        await client.start_notify(from_board, self._take, bluez={"use_start_notify": False})

    def disconnected(self, _: BleakClient) -> None:
        """Note that the connection has ended."""
        if self._client is not None:
            self._client = None
            self._lost()

    async def write(self, value: bytes) -> None:
        """Write a value, and wait for its acknowledgement. Raises OSError."""
        client, to_board = self._client, self._to_board
        if client is None or to_board is None:
            raise OSError(errno.ENOTCONN, "the connection has ended")
        try:
            await client.write_gatt_char(to_board, value, response=True)
        except FAULTS as fault:
            raise OSError(errno.EIO, in_words(fault, "the adapter")) from fault

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await self.end(client)

    async def end(self, client: BleakClient) -> None:
        """Disconnect a client. Raises nothing."""
        self._client = None
        with contextlib.suppress(*FAULTS):
            async with asyncio.timeout(DISCONNECT_S):
                await client.disconnect()

    def _take(self, _: BleakGATTCharacteristic, value: bytearray) -> None:
        if self._client is not None:
            self._received(bytes(value))
