"""An attacker beside the home: adverts with the home's company id and random octets, as many as the gateway sends."""

import asyncio
import random

from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.controller import AirController
from tools.radio_bench.listener import COMPANY_ID

ADDRESS = "66:66:66:66:66:66"
INTERVAL_S = 0.02
_NONCONNECTABLE = 3
_HEAD = bytes((27, 0xFF)) + COMPANY_ID.to_bytes(2, "little")


async def forge(air: VirtualAir, seed: int = 1) -> None:
    """Send a new forged advert at each advertising event, until this is cancelled."""
    octets = random.Random(seed)
    controller = AirController(air, ADDRESS)
    try:
        while True:
            controller.advertise(_NONCONNECTABLE, INTERVAL_S, _HEAD + octets.randbytes(24))
            await asyncio.sleep(air.pause_s(INTERVAL_S))
    finally:
        air.remove_controller(controller)
