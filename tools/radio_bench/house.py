"""A gateway in a guest and virtual boards of the host on its air: what the tests and the bench look at.

async with house(guest, folder, "mgmt", boards=2) as home:
    await home.join("kitchen")
    version = await home.update("kitchen")
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cpns import numbers
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from keycast.virtual_board.board import BluetoothAir, VirtualBoard, build
from tools.radio_bench.adapter import BLUETOOTHD_LOG, RELAY_LOG, Adapter, AirLog
from tools.radio_bench.gateway import GuestGateway
from tools.radio_bench.guest import Guest

PN_ID = "home"
SESSION_S, JOIN_S, KEY_S, CONFIRM_S = 120, 120, 90, 90
AIR_LOG = "air.jsonl"


class GuestHouse:
    """A home whose boards have no Wi-Fi. `air` is that of the adapter and of the boards, who reach it by `socket`."""

    def __init__(self, guest: Guest, air: VirtualAir, socket: Path, gateway: GuestGateway) -> None:
        self.guest = guest
        self.air = air
        self.adapter = Adapter(guest, air)
        self.gateway = gateway
        self.boards: list[VirtualBoard] = []
        self._socket = socket
        self._numbers = itertools.count(1)

    async def add_board(self, loss: float = 0.0) -> VirtualBoard:
        """Start a new board that loses this share of adverts, and wait until it has a session by GATT."""
        number = next(self._numbers)
        record = await self.gateway.new_board(f"lamp.{number}")
        folder = self._socket.parent / f"board{number}"
        board = VirtualBoard.create(folder, number, record, wifi=False, company_id=numbers.BLE_COMPANY_OF_TESTS)
        self.boards.append(board)
        await board.start(air=BluetoothAir(self._socket, loss))
        await board.event("session", timeout_s=SESSION_S)
        return board

    async def join(self, sg_id: str) -> int:
        """Make a Service Group, let all boards join, and wait until all have confirmed its key; return its version."""
        await self.gateway.ask("group.create", sg_id=sg_id, open_to=[PN_ID])
        await asyncio.gather(*(board.command("join", group=sg_id, timeout_s=JOIN_S) for board in self.boards))
        return await self.confirmed(sg_id)

    async def update(self, sg_id: str) -> int:
        """Make a new key and return its version."""
        await self.gateway.ask("group.update", sg_id=sg_id)
        return int((await self.gateway.ask("group.show", sg_id=sg_id))["version"])

    async def keyed(self, sg_id: str, version: int) -> list[dict[str, Any]]:
        """Wait until all boards have this key; return what they tell of it."""
        told = (board.event("key", group=sg_id, version=version, timeout_s=KEY_S) for board in self.boards)
        return list(await asyncio.gather(*told))

    async def confirmed(self, sg_id: str) -> int:
        """Wait until all members have confirmed the newest key, and return its version. Raises TimeoutError."""
        ends = time.monotonic() + CONFIRM_S
        while time.monotonic() < ends:
            shown = await self.gateway.ask("group.show", sg_id=sg_id)
            members = [each for each in shown["members"] if each["state"] == "member"]
            if not shown["update_pending"] and all(each["confirmed"] == shown["version"] for each in members):
                return int(shown["version"])
            await asyncio.sleep(0.2)
        raise TimeoutError(f"not all boards have confirmed: {shown['members']}")

    async def network(self) -> dict[str, Any]:
        """Return what the gateway tells of Bluetooth: figures, what is wrong."""
        networks = (await self.gateway.ask("status"))["networks"]
        return next(dict(each) for each in networks if each["broadcast"] == "BLE")


@asynccontextmanager
async def house(
    guest: Guest,
    folder: Path,
    sender: str,
    *,
    boards: int = 2,
    loss: float = 0.1,
    extended: bool = True,
    experimental: bool = True,
    interface: str = "",
) -> AsyncIterator[GuestHouse]:
    """Plug the adapter of a guest in, start bluetoothd, the gateway with `sender`, and boards without Wi-Fi.

    `extended`: the controller is one of Bluetooth 5, else of 4. `experimental`: bluetoothd is started with -E, as BlueZ
    5.66 needs for short intervals. `interface`: where the gateway broadcasts, too. The logs of air, bluetoothd and
    gateway are in `folder` at the end. Raises GuestCommandFailed, Refusal, TimeoutError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(build)  # it takes longer than Linux waits for a controller
    air = VirtualAir()
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.")))  # a short path for the socket
        stack.enter_context(AirLog(air, folder / AIR_LOG))
        socket = BoardSocket(air, place / "air")
        socket.open()
        stack.push_async_callback(socket.close)
        home = GuestHouse(guest, air, socket.path, GuestGateway(guest, place.name))
        stack.push_async_callback(home.adapter.unplug)
        await home.adapter.plug(extended=extended)
        stack.push_async_callback(_keep, guest, folder, home.gateway.log)
        await home.adapter.start_bluetoothd(*(["-E"] if experimental else []))
        stack.push_async_callback(home.adapter.end_bluetoothd)
        await home.gateway.start(sender, interface=interface)
        stack.push_async_callback(home.gateway.stop)
        stack.push_async_callback(_switch_off, home)
        await asyncio.gather(*(home.add_board(loss) for _ in range(boards)))
        yield home


async def _switch_off(home: GuestHouse) -> None:
    for board in home.boards:
        if board.running:
            await board.kill()


async def _keep(guest: Guest, folder: Path, log: str) -> None:
    await guest.keep(folder, log, BLUETOOTHD_LOG, RELAY_LOG)
    await guest.run(f"rm -f {BLUETOOTHD_LOG}")
