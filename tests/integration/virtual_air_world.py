"""A virtual air with a central of its own, and programs in the MicroPython VM that are boards on it."""

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bumble.device import Connection, Device, Peer
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address, OwnAddressType
from bumble.transport.common import StreamPacketSink, StreamPacketSource

from cpns import numbers
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from gateway_agent.radios.virtual_air.controller import AirController
from keycast.micropython_vm import compile, vm
from keycast.virtual_board import board
from tests.waiting import until

GATEWAY = "02:00:00:00:00:01"
SERVICE, TO_BOARD, FROM_BOARD = numbers.BLE_SERVICE, numbers.BLE_TO_BOARD, numbers.BLE_FROM_BOARD
ADVERT = bytes([2, 1, 6, 17, 7]) + bytes.fromhex(SERVICE.replace("-", ""))[::-1] + bytes([4, 255, 255, 255, 1])
"""A board's advert that asks for a connection (docs/protocol.md, "GATT")."""


class AirWorld:
    """An air, the socket of its boards, and a central."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.air = VirtualAir(seed)
        self.boards = BoardSocket(self.air, folder / "air")
        self.gateway = AirController(self.air, GATEWAY)
        self.device: Device = self.gateway.device()

    async def program(self, text: str, number: int = 1, **environment: str) -> "Program":
        """Start a program in a VM that is board `number` on this air."""
        return await start_program(self.boards.path, text, number, **environment)

    async def connect(self, address: str) -> Peer:
        """Connect to a board that advertises, agree on the MTU, and find its service."""
        public = Address(address, Address.PUBLIC_DEVICE_ADDRESS)
        connection = await self.device.connect(public, own_address_type=OwnAddressType.PUBLIC)
        peer = Peer(connection)
        await peer.request_mtu(517)
        await peer.discover_services()
        await peer.discover_characteristics()
        return peer


class BareBoard:
    """A peripheral of Bumble with the service of boards, for the tests of what connects to it.

    It answers each value with itself, unless `answer` is replaced: an async function of the value that returns values
    to be sent one after another. `service` False: it has another service. `written` are the values that it got.
    """

    def __init__(self, air: VirtualAir, address: str, *, service: bool = True) -> None:
        self.controller = AirController(air, address)
        self.device: Device = self.controller.device()
        self.device.gatt_server.max_mtu = 247
        self.written: list[bytes] = []
        self.connections = 0
        self._service = SERVICE if service else "5cbf4203-0000-0000-0000-000000000000"

    async def answer(self, value: bytes) -> list[bytes]:
        """Return what is sent for a value."""
        return [value]

    async def start(self) -> None:
        """Begin to advertise; it does so again after each connection."""
        both = Characteristic.READABLE | Characteristic.WRITEABLE
        flags = Characteristic.Properties
        written = CharacteristicValue(write=self._written)
        to_board = Characteristic(TO_BOARD, flags.WRITE | flags.WRITE_WITHOUT_RESPONSE, both, written)
        self._from_board = Characteristic(FROM_BOARD, flags.NOTIFY, both, b"")
        self.device.add_service(Service(self._service, [to_board, self._from_board]))
        self.device.on(Device.EVENT_CONNECTION, self._connected)
        await self.device.power_on()
        await self.device.start_advertising(
            advertising_data=ADVERT,
            own_address_type=OwnAddressType.PUBLIC,
            advertising_interval_min=20,
            advertising_interval_max=20,
            auto_restart=True,
        )

    async def disconnect(self) -> None:
        """End the connection."""
        for connection in list(self.device.connections.values()):
            await connection.disconnect()

    def _connected(self, connection: Connection) -> None:
        self.connections += 1

    async def _written(self, connection: Connection, value: bytes) -> None:
        self.written.append(value)
        for each in await self.answer(value):
            await self.device.notify_subscriber(connection, self._from_board, each)


class InProcess:
    """The transport to a controller of this process."""

    def __init__(self, controller: AirController) -> None:
        self.source = controller
        self.sink = controller.device().host.hci_sink

    async def close(self) -> None:
        """Leave the controller on its air."""


class ControllerOnTcp(StreamPacketSource):
    """A controller of an air behind a TCP connection, with HCI packets as on a serial line (H4)."""

    def __init__(self, air: VirtualAir, extended: bool) -> None:
        super().__init__()
        self.air, self.extended = air, extended
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = transport
        self.controller = AirController(
            self.air, GATEWAY, extended=self.extended, host_source=self, host_sink=StreamPacketSink(transport)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.air.remove_controller(self.controller)
        self.transport = None


@asynccontextmanager
async def controllers_on_tcp(air: VirtualAir, extended: bool = True):
    """Yield the `adapter` of the sender `hci` that opens a controller on an air, and the list of all that it opened."""
    opened: list[ControllerOnTcp] = []

    def connected() -> ControllerOnTcp:
        opened.append(ControllerOnTcp(air, extended))
        return opened[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    try:
        yield f"tcp-client:127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    finally:
        server.close()
        await until(lambda: not any(each.transport for each in opened))


async def start_program(air: Path, text: str, number: int = 1, **environment: str) -> "Program":
    """Start a program in a VM that is board `number` on the air with this socket."""
    board.build()
    program = f"import power_on\n{compile.program_for_board(text)}"
    process = await asyncio.create_subprocess_exec(
        *vm.ensure().command("-c", program, heap_kib=96),
        env={
            "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(board.HARDWARE_IMAGE),
            "BOARD_NVS": str(air.parent),
            "BOARD_BLE": str(air),
            "BOARD_MAC": f"02{number:010x}",
            **environment,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return Program(process, f"02:00:00:00:00:{number + 2:02X}")


class Program:
    """A running program in a VM. `address` is that of its radio."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.address = address
        self.process = process

    async def line(self) -> str:
        """Return the next line that it prints, "" after the last one."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode().rstrip("\n")

    def write(self, line: str) -> None:
        """Send a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def kill(self) -> None:
        """Cut the power."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def air_world(seed: int = 1):
    """Yield an AirWorld whose central is on and scans."""
    with tempfile.TemporaryDirectory(prefix="keycast-") as folder:
        world = AirWorld(Path(folder), seed)
        world.boards.open()
        await world.device.power_on()
        try:
            yield world
        finally:
            await world.boards.close()
            world.air.remove_controller(world.gateway)
