"""Connections to boards by a controller of our own: it implements `message_plane.links.gatt.Carrier`."""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bumble import hci
from bumble.core import UUID
from bumble.device import Connection, Peer
from bumble.gatt_client import CharacteristicProxy

from cpns import numbers
from gateway_agent.radios.bumble_controller import ANSWER_S, FAULTS, HostDevice, OwnController, end

MTU = 517
"""The longest that the Attribute Protocol needs: a value of 512 octets and what goes with it."""
VALUE_MAX = 512
_VALUE_HEAD = 3

T = TypeVar("T")


class BumbleCarrier:
    """The central role of a controller."""

    def __init__(self, controller: OwnController, type_of: Callable[[str], hci.AddressType]) -> None:
        """`type_of` returns the type of an address, which its text does not say."""
        self._controller = controller
        self._type_of = type_of
        self._connecting = asyncio.Lock()  # a controller connects to one board at a time

    async def connect(
        self, address: str, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> "BumbleConnection":
        """Connect to a board that advertises, and find its service. Raises OSError."""
        try:
            async with self._connecting:
                device = self._controller.device
                if device is None:
                    raise OSError(errno.ENETDOWN, self._controller.problem)
                connection = await _connect(device, hci.Address(address, self._type_of(address)))
            found = BumbleConnection(connection, received, lost)
            try:
                await found.prepare()
            except BaseException:
                await found.close()
                raise
            return found
        except FAULTS as fault:
            raise _as_os_error(fault) from fault


class BumbleConnection:
    """Implements `message_plane.links.gatt.BoardConnection`."""

    def __init__(self, connection: Connection, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self.value_max = 0
        self._connection = connection
        self._received = received
        self._lost = lost
        self._is_closed = False
        self._to_board: CharacteristicProxy[bytes] | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.on(Connection.EVENT_DISCONNECTION, self._disconnected)

    async def prepare(self) -> None:
        """Agree on the MTU, find the characteristics, and subscribe. Raises one of FAULTS."""
        peer = Peer(self._connection)
        self.value_max = min(await self._unless_gone(peer.request_mtu(MTU)) - _VALUE_HEAD, VALUE_MAX)
        services = await self._unless_gone(peer.discover_service(numbers.BLE_SERVICE))
        if not services:
            raise OSError(errno.ENOPROTOOPT, "the device has no service of boards")
        await self._unless_gone(services[0].discover_characteristics())
        to_board = services[0].get_characteristics_by_uuid(UUID(numbers.BLE_TO_BOARD))
        from_board = services[0].get_characteristics_by_uuid(UUID(numbers.BLE_FROM_BOARD))
        if not to_board or not from_board:
            raise OSError(errno.ENOPROTOOPT, "the service of the device is not that of boards")
        self._to_board = to_board[0]
        await self._unless_gone(from_board[0].subscribe(self._receive))

    async def write(self, value: bytes) -> None:
        """Write a value. Raises OSError."""
        if len(value) > self.value_max:
            raise OSError(errno.EMSGSIZE, f"a value of {len(value)} octets, and {self.value_max} is the most")
        assert self._to_board is not None
        try:
            await self._unless_gone(self._to_board.write_value(value, with_response=True))
        except FAULTS as fault:
            raise _as_os_error(fault) from fault

    async def close(self) -> None:
        """Disconnect."""
        self._is_closed = True
        if not self._gone.done():
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(ANSWER_S):
                    await self._connection.disconnect()

    def _receive(self, value: bytes) -> None:
        if not self._is_closed:
            self._received(bytes(value))

    def _disconnected(self, _reason: int) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
            if not self._is_closed and self._to_board is not None:
                self._lost()

    async def _unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. Bumble cancels it when the connection ends, which is an OSError here."""
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() or task.cancelled():
                raise OSError(errno.ECONNRESET, "the connection has ended")
            return task.result()
        finally:
            await end([task])


async def _connect(device: HostDevice, address: hci.Address) -> Connection:
    """Return a connection. If this is cancelled, there is none afterwards."""
    pending = asyncio.ensure_future(device.connect(address, timeout=None))
    try:
        await asyncio.wait([pending])
    except asyncio.CancelledError:
        with contextlib.suppress(*FAULTS):
            await device.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
        await asyncio.wait([pending], timeout=ANSWER_S)
        if pending.done() and not pending.cancelled() and pending.exception() is None:
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(ANSWER_S):
                    await pending.result().disconnect()
        raise
    if pending.cancelled():
        raise OSError(errno.ENETDOWN, "the controller is gone")
    return pending.result()


def _as_os_error(fault: Exception) -> OSError:
    return fault if isinstance(fault, OSError) else OSError(errno.EIO, str(fault) or type(fault).__name__)
