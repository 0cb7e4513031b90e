"""A virtual air with a central of its own, and programs in the MicroPython VM that are boards on it."""

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from bumble.device import Device, Peer
from bumble.hci import Address, OwnAddressType

from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from gateway_agent.radios.virtual_air.controller import AirController
from keycast.micropython_vm import compile, vm
from keycast.virtual_board import board

GATEWAY = "02:00:00:00:00:01"
SERVICE = "5cbf4203-6591-482f-bd77-d88cdb374332"
TO_BOARD = "5cbf4204-6591-482f-bd77-d88cdb374332"
FROM_BOARD = "5cbf4205-6591-482f-bd77-d88cdb374332"


class AirWorld:
    """An air, the socket of its boards, and a central."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.air = VirtualAir(seed)
        self.boards = BoardSocket(self.air, folder / "air")
        self.gateway = AirController(self.air, GATEWAY)
        self.device: Device = self.gateway.device()

    async def program(self, text: str, number: int = 1, **environment: str) -> "Program":
        """Start a program in a VM that is board `number` on this air."""
        process = await asyncio.create_subprocess_exec(
            *vm.ensure().command("-c", text, heap_kib=96),
            env={
                "MICROPYPATH": f"{compile.BOARD_TREE}:{board.ON_VM_TREE}:.frozen",
                "BOARD_BLE": str(self.boards.path),
                "BOARD_MAC": f"02{number:010x}",
                **environment,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return Program(process, f"02:00:00:00:00:{number + 2:02X}")

    async def connect(self, program: "Program") -> Peer:
        """Connect to a board that advertises, agree on the MTU, and find its service."""
        address = Address(program.address, Address.PUBLIC_DEVICE_ADDRESS)
        connection = await self.device.connect(address, own_address_type=OwnAddressType.PUBLIC)
        peer = Peer(connection)
        await peer.request_mtu(517)
        await peer.discover_services()
        await peer.discover_characteristics()
        return peer


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
    board.build()
    with tempfile.TemporaryDirectory(prefix="keycast-") as folder:
        world = AirWorld(Path(folder), seed)
        world.boards.open()
        await world.device.power_on()
        try:
            yield world
        finally:
            await world.boards.close()
            world.air.remove_controller(world.gateway)
