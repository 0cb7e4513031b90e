"""A board with Bluetooth only, and centrals that do what they should not: it stays there, and for the next one too."""

import asyncio
import contextlib
import os
from contextlib import asynccontextmanager

import pytest
from bumble.att import ATT_Error
from bumble.core import BaseBumbleError

from cpns import numbers
from keycast.provisioning.board import Trust, new_board
from keycast.virtual_board.board import BluetoothAir, VirtualBoard
from message_plane import credentials
from tests.integration.virtual_air_world import air_world
from tests.waiting import PATIENCE_S, until

POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
ADDRESS = "02:00:00:00:00:03"  # of the radio of board 1
LAST, MORE = b"\x01", b"\x00"
PING, PONG = b"\x40\x00\x12\x34", b"\x70\x00\x12\x34"  # RFC 7252, 4.3


class Central:
    """A central and the board at the other end of its connection; `values` are those that the board has sent."""

    def __init__(self, peer) -> None:
        self.peer = peer
        (self.to_board,) = peer.get_characteristics_by_uuid(numbers.BLE_TO_BOARD)
        (self._from_board,) = peer.get_characteristics_by_uuid(numbers.BLE_FROM_BOARD)
        self.values: list[bytes] = []

    async def subscribe(self) -> None:
        await self._from_board.subscribe(lambda value: self.values.append(bytes(value)))

    async def write(self, value: bytes) -> None:
        await self.to_board.write_value(value, with_response=True)

    async def leave(self) -> None:
        await self.peer.connection.disconnect()


@asynccontextmanager
async def board_and_centrals(folder):
    """Yield a board without gateway in reach, and a function that connects to it."""
    trust = Trust(credentials.of("gw.home", "gateway", POINT), bytes(64), 1, "home")
    async with air_world() as world:
        record, _ = new_board("lamp", trust)
        board = VirtualBoard.create(folder, 1, record, wifi=False, company_id=numbers.BLE_COMPANY_OF_TESTS)
        try:
            await board.start(air=BluetoothAir(world.boards.path))

            async def connect():
                async with asyncio.timeout(PATIENCE_S):  # the board has to notice that the last one has gone
                    while True:
                        with contextlib.suppress(BaseBumbleError, TimeoutError):
                            return Central(await asyncio.wait_for(world.connect(ADDRESS), 5))

            yield board, connect
        finally:
            await board.stop()


async def still_serves(board, connect):
    """The board answers the CoAP ping of the next central, and has not started anew."""
    central = await connect()
    await central.subscribe()
    await central.write(LAST + PING)
    await until(lambda: LAST + PONG in central.values)
    await central.leave()
    assert [event["text"].split()[1] for event in board.events if event["event"] == "print"].count("start:") == 1


async def without_end(central):
    for _ in range(300):
        await central.write(MORE + os.urandom(243))


async def malformed(central):
    for value in (b"", b"\x02", b"\xff" * 244, MORE, LAST + os.urandom(243), os.urandom(244)):
        for _ in range(20):
            await central.write(value)


async def too_long(central):
    for size in (245, 512, 513):
        with contextlib.suppress(ATT_Error):
            await central.to_board.write_value(LAST + bytes(size - 1), with_response=True)


async def mid_message(central):
    await central.write(MORE + b"half of it")


@pytest.mark.real_time
@pytest.mark.parametrize("hostile", [without_end, malformed, too_long, mid_message])
async def test_a_central_that_writes_nonsense_takes_nothing_from_the_next_one(tmp_path, hostile):
    async with board_and_centrals(tmp_path / "board") as (board, connect):
        before = (await board.command("status"))["heap"]
        central = await connect()
        with contextlib.suppress(BaseBumbleError):  # the board may end the connection
            await hostile(central)
            await central.leave()
        await still_serves(board, connect)
        assert (await board.command("status"))["heap"] < before + 4096


@pytest.mark.real_time
async def test_a_central_that_connects_and_leaves_again_and_again_takes_nothing_from_the_next_one(tmp_path):
    async with board_and_centrals(tmp_path / "board") as (board, connect):
        for number in range(8):
            central = await connect()
            if number & 1:
                await central.write(MORE + b"never ended")
            await central.leave()
        await still_serves(board, connect)
