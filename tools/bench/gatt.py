"""Datagrams by GATT, there and back: the gateway's link, the virtual air, and a board in the MicroPython VM.

The air takes no time for a packet, so the figures are those of both programs and of the Bluetooth stack between them. A
connection interval, 30 ms for example, is added for each value on real radios.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gateway_agent.radios import ble_virtual
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_ears import Ears
from gateway_agent.radios.ble_reception import BleReception
from keycast.micropython_vm.vm import NoVm
from message_plane.links.gatt import GattLink
from message_plane.links.link import Address
from tools.bench.echo_board import ADDRESS, echo_board
from tools.bench.rows import Line, Row, Skipped, Tell

SIZES = {20: 0.123, 244: 0.123, 1400: 0.123}
"""Octets of a datagram -> seconds there and back at most."""
ROUNDS = 15
ANSWER_S = 60.0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the time of connecting, and that of datagrams of some lengths."""
    try:
        tell("a board on the virtual air")
        connecting, datagrams = asyncio.run(_measured(tell))
    except NoVm as missing:
        yield Skipped("GATT", str(missing))
        return
    note = "of a board that does not ask for it; it advertises once a second"
    yield Row("GATT: connecting, and the first datagram there and back", connecting, "s", note=note)
    for size, seconds in datagrams.items():
        name = f"GATT: datagram of {size:,} octets there and back"
        yield Row(name, seconds * 1000, "ms", target=SIZES[size] * 1000, note=f"median of {ROUNDS}")


class _Home:
    """The gateway's link on an air of its own, and the datagrams that it received."""

    def __init__(self, air: Path) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        section = BleSection(sender="virtual", adapter=str(air))
        counters: Counter[str] = Counter()
        self._sender = ble_virtual.open_sender(section, counters)
        ears = Ears(section, counters)
        self.heard = asyncio.Event()
        self.link = GattLink(ears, counters=counters)
        self._reception = BleReception(self._advertised, counters)
        self._reception.listen(ears.beside(self._sender))

    async def open(self) -> None:
        await self.link.open(lambda datagram, _: self.received.put_nowait(datagram))
        self._sender.start(lambda: None, lambda: None)

    async def there_and_back(self, address: Address, size: int) -> float:
        """Return the seconds for a datagram of so many octets."""
        datagram = os.urandom(size)
        began = time.monotonic()
        self.link.send(address, datagram)  # type: ignore[arg-type]
        async with asyncio.timeout(ANSWER_S):
            back = await self.received.get()
        if back != datagram:
            raise AssertionError("another datagram came back")
        return time.monotonic() - began

    async def close(self) -> None:
        await self.link.close()
        await self._reception.close()
        await self._sender.close()

    def _advertised(self, address: str, wants: bool) -> None:
        self.link.advertised(address, wants)
        self.heard.set()


async def _measured(tell: Tell) -> tuple[float, dict[int, float]]:
    """Return seconds of connecting with the first datagram, and of a datagram by its length. Raises NoVm."""
    with tempfile.TemporaryDirectory(prefix="keycast-") as folder:
        air = Path(folder) / "run" / "air"
        home = _Home(air)
        await home.open()
        try:
            async with echo_board(air, Path(folder)):
                return await _times(home, tell)
        finally:
            await home.close()


async def _times(home: _Home, tell: Tell) -> tuple[float, dict[int, float]]:
    async with asyncio.timeout(ANSWER_S):
        await home.heard.wait()
    address = await home.link.find(f"gatt:{ADDRESS}")
    connecting = await home.there_and_back(address, 20)
    datagrams = {}
    for size in SIZES:
        tell(f"datagrams of {size} octets")
        datagrams[size] = statistics.median([await home.there_and_back(address, size) for _ in range(ROUNDS)])
    return connecting, datagrams
