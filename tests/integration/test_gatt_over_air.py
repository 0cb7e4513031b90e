"""The GATT links of gateway and board, each with its own radio code, over the virtual air. The board is in the VM."""

import asyncio
import os
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway_agent.radios import ble_virtual
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_ears import Ears
from gateway_agent.radios.ble_reception import BleReception
from message_plane.links.gatt import GattLink
from tests.integration.virtual_air_world import start_program
from tests.waiting import until

BOARD = """
import asyncio, ble
from device_agent.clock import Clock
from device_agent.links.gatt import GattLink
radio = ble.BleRadio(0xFFFF)
radio.switch_on()
link = GattLink(radio, Clock())
async def tend():
    while True:
        await link.changed()
async def main():
    radio_task, link_task = asyncio.create_task(radio.run()), asyncio.create_task(tend())
    while True:
        address, datagram = await link.recv()
        if datagram == b"bye":
            radio.disconnect()
        link.send(address, datagram)
asyncio.run(main())
"""
SIZES = 1, 20, 243, 244, 1000, 1400


class World:
    """The link on the sender `virtual`, and what it received."""

    def __init__(self, path):
        self.path = path
        self.counters = Counter()
        self.received = asyncio.Queue()
        section = BleSection(sender="virtual", adapter=str(path))
        self.sender = ble_virtual.open_sender(section, self.counters)
        ears = Ears(section, self.counters)
        self.link = GattLink(ears, counters=self.counters)
        self.reception = BleReception(self.link.advertised, self.counters)
        self.reception.listen(ears.beside(self.sender))

    async def echoed(self, address, datagram):
        """Send a datagram to a board, and return when it has come back."""
        self.link.send(address, datagram)
        received, _ = await asyncio.wait_for(self.received.get(), 30)
        assert received == datagram


@asynccontextmanager
async def world():
    with tempfile.TemporaryDirectory(prefix="keycast-") as folder:
        made = World(Path(folder) / "run" / "air")
        await made.link.open(lambda datagram, address: made.received.put_nowait((datagram, address)))
        made.sender.start(lambda: None, lambda: None)
        try:
            await until(lambda: made.sender.up)
            yield made
        finally:
            await made.link.close()
            await made.reception.close()
            await made.sender.close()


@pytest.mark.real_time
async def test_datagrams_of_all_lengths_go_there_and_back_and_again_after_the_connection_was_lost():
    async with world() as home:
        program = await start_program(home.path, BOARD, BOARD_NVS=str(home.path.parent))
        try:
            address = await home.link.find(f"gatt:{program.address}")
            for size in SIZES:
                await home.echoed(address, os.urandom(size))
            assert home.counters["gatt_connected"] == 1
            home.link.send(address, b"bye")
            await until(lambda: home.counters["gatt_lost"] == 1)
            await until(home.received.qsize)  # the board had an answer, for which it asked for a connection
            assert home.received.get_nowait()[0] == b"bye" and home.counters["gatt_connected"] == 2
        finally:
            await program.kill()
