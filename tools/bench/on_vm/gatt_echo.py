# Runs inside the VM, with all code in ROM as on a board: a board that sends every datagram back by GATT.
import asyncio

import ble

from device_agent.clock import Clock
from device_agent.links.gatt import GattLink

radio = ble.BleRadio(0xFFFF)
radio.switch_on()
link = GattLink(radio, Clock())


async def tend():
    while True:
        await link.changed()


async def main():
    tasks = [asyncio.create_task(each()) for each in (radio.run, tend)]
    while tasks:
        link.send(*await link.recv())


asyncio.run(main())
