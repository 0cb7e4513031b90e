"""Datagrams by GATT between the gateway's link on real BlueZ and a board, also beside boards that misbehave."""

import asyncio
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cpns import numbers
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from tests.integration.virtual_air_world import BareBoard
from tools.bench.echo_board import ADDRESS, echo_board
from tools.radio_bench import adapter

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ECHO = f"python3 -m tools.radio_bench.on_guest.gatt_echo {numbers.BLE_COMPANY_OF_TESTS} {ADDRESS}"
SIZES = 1, 20, 243, 244, 1000, 1400


@asynccontextmanager
async def air_of(guest, logs):
    """An air with the guest's adapter, under bluetoothd, and a board that sends datagrams back."""
    air = VirtualAir(1)
    plugged = adapter.Adapter(guest, air)
    with tempfile.TemporaryDirectory(prefix="bench.") as place, adapter.AirLog(air, logs / "air.jsonl"):
        boards = BoardSocket(air, Path(place) / "air")
        boards.open()
        try:
            async with echo_board(boards.path, Path(place)):
                await plugged.plug()
                await plugged.start_bluetoothd()
                yield air, plugged
        finally:
            await guest.keep(logs, adapter.BLUETOOTHD_LOG)
            await plugged.end_bluetoothd()
            await plugged.unplug()
            await boards.close()


async def echoed(guest, *sizes):
    """Milliseconds there and back for each size, and what the link has counted."""
    ran = await guest.run(f"{ECHO} {' '.join(map(str, sizes))}", timeout_s=300)
    *times, counted = ran.out.splitlines()
    print(*times, counted, sep="\n")
    return dict(map(int, line.split()) for line in times), json.loads(counted)


async def test_datagrams_of_all_lengths_go_there_and_back(guest, logs):
    async with air_of(guest, logs):
        times, counted = await echoed(guest, *SIZES)
        assert tuple(times) == SIZES and counted["gatt_connected"] >= 1
        times, _ = await echoed(guest, 1400)  # by another process, as after a restart of the gateway
        assert tuple(times) == (1400,)


async def endless(value):
    return [b"\x00" + bytes(200)] * 20


async def silent(value):
    await asyncio.Event().wait()


async def test_boards_that_misbehave_hold_up_nobody(guest, logs):
    """One has another service, one sends fragments without end, one acknowledges no value, one hangs up at once.

    Faults of the kernel are not looked for: Linux 6.1 warns of a damaged list (hci_chan_del) when a peer hangs up.
    """
    async with air_of(guest, logs) as (air, _):
        hostile = [BareBoard(air, f"02:00:00:00:01:0{number}", service=number != 1) for number in range(1, 5)]
        hostile[1].answer, hostile[2].answer = endless, silent
        for board in hostile:
            await board.start()
        hanging_up = asyncio.create_task(hang_up(hostile[3]))
        try:
            for _ in range(5):
                times, _ = await echoed(guest, *SIZES, *SIZES, *SIZES)
                assert tuple(times) == SIZES
                if all(board.connections for board in hostile):
                    break
        finally:
            hanging_up.cancel()
        assert sum(board.connections > 0 for board in hostile) >= 2, "there were connections to them, too"


async def hang_up(board):
    while True:
        await asyncio.sleep(0.1)
        await board.disconnect()
