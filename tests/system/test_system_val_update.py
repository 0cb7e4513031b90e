"""An update of a board that is a VAL client, from its offer to its confirmation; its keys reach it before and after."""

import asyncio
import base64
from pathlib import Path

import pytest

from device_agent.key_store import KeyStore
from device_agent.update import slot_record
from keycast.updates import images, offline_key
from keycast.virtual_board.board import RESET_CODE, VirtualBoard, build
from suit.build import build as envelope
from tests.system.test_system_val_client import Gateway, held, known, notice, val_board

PATIENCE_S = 400  # of a busy machine


async def keep_on(board: VirtualBoard) -> None:
    while await board.ended(timeout_s=3600) == RESET_CODE:
        await board.start(up=False)


async def has_key(gateway: Gateway, board: VirtualBoard, name: str) -> None:
    """Send the board a key message until it holds the key; on a busy machine its answer comes too late."""
    async with asyncio.timeout(PATIENCE_S):
        await gateway.ready()
        while known(name) not in held(board):
            await gateway.user.take(notice(name, f"of {name}"))


@pytest.mark.req("SEC-30")
async def test_a_val_client_takes_the_agent_of_val_clients_and_no_other(tmp_path: Path) -> None:
    build()
    key = offline_key.make(tmp_path / "update.key", b"never kept on a gateway")
    gateway = Gateway(tmp_path, f'update = {{ key = "{tmp_path}/update.key.pub" }}')
    await gateway.open()
    board = val_board(tmp_path / "board", gateway)
    board.have_slots()
    try:
        await board.start(up=False)
        care = asyncio.create_task(keep_on(board))
        await has_key(gateway, board, "first key")
        for number, val_client in ((8, False), (7, True)):
            image = images.agent(None, val_client)
            octets = envelope(image.kind, image.class_text, number, image.octets, key.sign)
            await gateway.app.updates.offer(base64.b64encode(octets).decode())
        record = None
        async with asyncio.timeout(PATIENCE_S):
            while record is None or record.agent_number != 7:
                await asyncio.sleep(0.5)
                record = slot_record.load(KeyStore(board.nvs.snapshot()))
        assert (record.good, record.trial, record.reason) == (1, 0, 0)
        states = [(event["state"], event["number"]) for event in board.events if event["event"] == "update"]
        assert states == [("collecting", 7), ("waiting", 7), ("confirmed", 7)]
        assert known("first key") in held(board)
        await has_key(gateway, board, "next key")
        care.cancel()
    finally:
        await board.kill()
        await gateway.user.close()
        await gateway.app.close()
