"""How long objects take from the gateway's radio stack in a guest to a board, beside an attacker and with losses.

The objects are signed broadcasts of the test vectors, with 6, 11 and 62 rows. The board is a `Listener`.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bumble.controller import Controller

from gateway_agent.radios.virtual_air.air import AdvertPdu, VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from keycast.virtual_board.board import BluetoothAir
from tools import PROJECT
from tools.radio_bench import adapter, forger
from tools.radio_bench.guest import Guest
from tools.radio_bench.listener import Listener

VECTORS = PROJECT / "tests" / "vectors" / "ble_frames.json"
CASES = ("1 of 1,024 leaves", "5 of 1,024 leave", "5 % of 1,024 leave, random 0")
LOSS = 0.3
LATEST_S = 120
"""Seconds after which an object counts as not delivered."""
AIRING_LOG = "/tmp/air_objects.log"
_SOCKET = "/run/air_objects.sock"
_START_S = 120
_ADVERT = 24


@dataclass(frozen=True)
class Delivery:
    """One object that a board has got.

    `rows`: its adverts without repairs. Until the board had it, since the first advert: `seconds`; `adverts`: different
    ones that were on the air; `pdus`: all that were, with repetitions.
    """

    rows: int
    seconds: float
    adverts: int
    pdus: int


class ObjectsOnAir:
    """The program `air_objects` in a guest. `told` is what it said of its sender at the last airing."""

    def __init__(self, guest: Guest, air: VirtualAir) -> None:
        self._guest = guest
        self._air = air
        self.told: dict[str, Any] = {}

    async def deliver(self, signed: bytes, rows: int, listener: Listener) -> Delivery:
        """Air an object again and again until the listener has it. Raises TimeoutError."""
        began: list[float] = []
        payloads: list[bytes] = []

        def watch(sender: Controller, advert: AdvertPdu) -> None:
            if sender.name == adapter.ADDRESS and len(advert.data) >= _ADVERT:
                began.append(time.monotonic())
                payloads.append(advert.data)

        self._air.sniffers.append(watch)
        airing = asyncio.create_task(self._repeat(signed))
        try:
            async with asyncio.timeout(LATEST_S):
                heard_at = await listener.hears(signed)
        finally:
            self._air.sniffers.remove(watch)
            airing.cancel()
            self.told = json.loads(await self._guest.ask(_SOCKET, "stop"))
        until = sum(at <= heard_at for at in began)
        return Delivery(rows, heard_at - began[0], len(set(payloads[:until])), until)

    async def _repeat(self, signed: bytes) -> None:
        while True:
            await self._guest.ask(_SOCKET, signed.hex())


@asynccontextmanager
async def objects_on_air(
    guest: Guest, air: VirtualAir, sender: str, home: dict[str, Any]
) -> AsyncIterator[ObjectsOnAir]:
    """Run `air_objects` with this sender for the home of a test vector."""
    program = "python3 -m tools.radio_bench.on_guest.air_objects"
    words = f"{program} {_SOCKET} {sender} {home['pn_alias']:x} {home['frame_key']}"
    process = await guest.start(words, AIRING_LOG)
    try:
        await guest.until(f"test -S {_SOCKET} || ! kill -0 {process}", _START_S)
        yield ObjectsOnAir(guest, air)
    finally:
        await guest.end(process, signal.SIGTERM)
        await guest.run(f"rm -f {_SOCKET}")


async def measure(
    guest: Guest, air: VirtualAir, sender: str, folder: Path, loss: float = LOSS
) -> tuple[list[Delivery], dict[str, Any]]:
    """Deliver each object of CASES once; return the deliveries, and what the sender says of itself.

    `folder` gets the flash of the listener and the socket of the air, so its path must be short. Raises TimeoutError,
    GuestCommandFailed.
    """
    cases = {case["name"]: case for case in json.loads(VECTORS.read_text())["cases"]}
    home = cases[CASES[0]]
    board = BoardSocket(air, folder / "air")
    board.open()
    forging = asyncio.create_task(forger.forge(air))
    try:
        async with (
            Listener(
                folder, BluetoothAir(board.path, loss), home["pn_alias"], bytes.fromhex(home["frame_key"])
            ) as listener,
            objects_on_air(guest, air, sender, home) as objects,
        ):
            deliveries = [
                await objects.deliver(bytes.fromhex(cases[name]["object"]), cases[name]["k"], listener)
                for name in CASES
            ]
            return deliveries, objects.told
    finally:
        forging.cancel()
        await board.close()
