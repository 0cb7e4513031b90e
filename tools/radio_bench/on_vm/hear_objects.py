# Run in the MicroPython VM after `power_on`: hear signed broadcasts as adverts with radio and medium of a board.
# Each whole object is printed as a line of hexadecimal digits. OBJECTS_COMPANY, OBJECTS_ALIAS and OBJECTS_KEY are the
# company id, the PN alias and the frame key in hexadecimal digits.
import asyncio
from os import getenv

import ble

from device_agent.adverts import AdvertMedium
from device_agent.clock import Clock


class Home:
    # The names that the medium asks of a PNE: itself, and its GKDKs by generation
    def __init__(self):
        self.gkdks = self
        self.frame_keys = {1: bytes.fromhex(getenv("OBJECTS_KEY"))}
        self.pn_alias = int(getenv("OBJECTS_ALIAS"), 16)


async def main():
    radio = ble.BleRadio(int(getenv("OBJECTS_COMPANY"), 16))
    radio.switch_on()
    asyncio.create_task(radio.run())
    medium, home = AdvertMedium(radio, Clock()), Home()
    print("hears")
    while True:
        whole = await medium.hear(home)
        if whole:
            print(whole.hex())


asyncio.run(main())
