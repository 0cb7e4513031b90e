"""The central of a gateway on the virtual air: it hears boards, connects to them, and loses them."""

import asyncio
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway_agent.radios import ble_virtual
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_scanner import Advert
from gateway_agent.radios.bumble_carrier import BumbleCarrier
from gateway_agent.radios.bumble_controller import OwnController
from gateway_agent.radios.bumble_scanner import BumbleScanner, structures
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.controller import AirController
from tests.integration.test_virtual_air import ECHO
from tests.integration.virtual_air_world import ADVERT, BareBoard, InProcess, start_program
from tests.waiting import until

BOARD = "02:00:00:00:00:11"


@pytest.mark.real_time
async def test_a_gateway_hears_a_board_and_exchanges_values_with_it():
    with tempfile.TemporaryDirectory(prefix="keycast-") as folder:
        path = Path(folder) / "run" / "air"
        sender = ble_virtual.open_sender(BleSection(sender="virtual", adapter=str(path)), Counter())
        adverts, values = {}, asyncio.Queue()
        sender.scanner.open(lambda advert: adverts.setdefault(advert.address, advert))
        sender.start(lambda: None, lambda: None)
        await until(lambda: sender.up)
        program = await start_program(path, ECHO)
        try:
            await until(lambda: program.address in adverts)
            assert adverts[program.address] == Advert(program.address, b"\x01", True, True, -55)
            connection = await sender.carrier.connect(
                program.address, values.put_nowait, lambda: values.put_nowait(None)
            )
            assert connection.value_max == 244
            for length in (1, 20, 244):
                await connection.write(bytes(length))
                assert await asyncio.wait_for(values.get(), 30) == bytes(length)
            with pytest.raises(OSError, match="244 is the most"):
                await connection.write(bytes(245))
            await program.kill()
            assert await asyncio.wait_for(values.get(), 30) is None, "the connection is lost"
            with pytest.raises(OSError):
                await connection.write(b"1")
            await connection.close()
        finally:
            await program.kill()
            await sender.close()
        assert not path.exists()


@asynccontextmanager
async def central(air):
    """Yield a carrier on an air."""

    async def open_transport():
        return InProcess(AirController(air, "02:00:00:00:00:01", extended=True))

    controller = OwnController("test", open_transport, "")
    scanner = BumbleScanner(controller, 0xFFFF)
    controller.start([scanner.scan], lambda: None)
    await until(lambda: controller.device)
    try:
        yield BumbleCarrier(controller, scanner.type_of), scanner
    finally:
        await controller.close()


async def test_a_connection_that_the_board_ends_is_lost_once():
    air = VirtualAir(1)
    board = BareBoard(air, BOARD)
    await board.start()
    async with central(air) as (carrier, _):
        lost = []
        connection = await carrier.connect(BOARD, lambda value: None, lambda: lost.append(1))
        await board.disconnect()
        await until(lambda: lost)
        with pytest.raises(OSError):
            await connection.write(b"1")
        await connection.close()
        assert lost == [1]


async def test_a_connection_that_this_end_closes_is_not_lost():
    air = VirtualAir(1)
    board = BareBoard(air, BOARD)
    await board.start()
    async with central(air) as (carrier, _):
        lost = []
        connection = await carrier.connect(BOARD, lambda value: None, lambda: lost.append(1))
        await connection.close()
        await connection.close()
        await until(lambda: not board.device.connections)
        assert not lost


async def test_a_write_that_the_board_does_not_answer_ends_with_the_connection():
    air = VirtualAir(1)
    board = BareBoard(air, BOARD)
    await board.start()
    stalls = asyncio.Event()

    async def answer(value):
        await stalls.wait()
        return []

    board.answer = answer
    async with central(air) as (carrier, _):
        connection = await carrier.connect(BOARD, lambda value: None, lambda: None)
        writing = asyncio.create_task(connection.write(b"1"))
        await until(lambda: board.written)
        await board.disconnect()
        with pytest.raises(OSError, match="ended"):
            await writing
        stalls.set()


async def test_a_device_without_the_service_is_refused():
    air = VirtualAir(1)
    await BareBoard(air, BOARD, service=False).start()
    async with central(air) as (carrier, _):
        with pytest.raises(OSError, match="no service of boards"):
            await carrier.connect(BOARD, lambda value: None, lambda: None)


async def test_a_connection_that_is_not_wanted_any_more_is_not_made():
    air = VirtualAir(1)
    board = BareBoard(air, BOARD)
    async with central(air) as (carrier, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await carrier.connect(BOARD, lambda value: None, lambda: None)
        await board.start()  # only now it advertises
        await asyncio.sleep(10)
        assert not board.connections
        connection = await carrier.connect(BOARD, lambda value: None, lambda: None)
        assert board.connections == 1
        await connection.close()


async def test_it_connects_to_one_board_after_the_other():
    air = VirtualAir(1)
    addresses = [f"02:00:00:00:00:{last:02X}" for last in range(16, 22)]
    for address in addresses:
        await BareBoard(air, address).start()
    async with central(air) as (carrier, _):
        made = [carrier.connect(address, lambda value: None, lambda: None) for address in addresses]
        for connection in await asyncio.gather(*made):
            await connection.write(b"1")
            await connection.close()


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"", []),
        (b"\x00", []),
        (b"\x02\x01\x06", [(1, b"\x06")]),
        (b"\x01\x09\x02\x01\x06", [(9, b""), (1, b"\x06")]),
        (b"\x05\x01\x06", []),
        (b"\x02\x01\x06\x00\x02\x01\x06", [(1, b"\x06")]),
        (b"\xff" * 31, []),
    ],
)
def test_structures_of_an_advert_are_those_that_are_whole(octets, found):
    assert structures(octets) == found


async def test_what_is_not_of_boards_is_not_reported():
    air = VirtualAir(1)
    other = AirController(air, BOARD)
    async with central(air) as (_, scanner):
        heard = []
        scanner.open(heard.append)
        for at in range(32):
            other.advertise(3, 0.02, bytes([at]) * at)
            await asyncio.sleep(0.1)
        assert not heard
        other.advertise(3, 0.02, ADVERT)
        await until(lambda: heard)
        assert heard[0] == Advert(BOARD, b"\x01", False, False, -55), "it cannot be connected to"
        heard.clear()
        other.advertise(3, 0.02, b"\x1b\xff\xff\xff" + bytes(24))
        await until(lambda: heard)
        assert heard[0].company == bytes(24)
