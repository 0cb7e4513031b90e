"""A board without Wi-Fi is paired over Bluetooth LE: only with the gateway that was told its secret (SEC-20)."""

import asyncio

import pytest

from device_agent import provisioning
from device_agent.key_store import KeyStore
from gateway_agent import pairing_secret
from keycast.demo.house import BLE, COMPANY_ID, PN_ID
from keycast.virtual_board.board import RESET_CODE, BluetoothAir, VirtualBoard
from keycast.virtual_board.loopback import free_numbers
from tests.system.conftest import house_of
from tests.system.watching import keyed
from tests.waiting import PATIENCE_S

SG = "home/lights"


@pytest.mark.req("SEC-20", "SEC-31", "CPNS-GKM-71")
async def test_a_new_board_with_bluetooth_only_is_named_paired_and_keyed(tmp_path):
    async with house_of(tmp_path, 1, radios=[BLE]) as house:
        air = BluetoothAir(tmp_path / "air", 0.0)
        board = VirtualBoard.create(tmp_path / "new", free_numbers(1), b"", wifi=False, company_id=COMPANY_ID)
        try:
            await board.start(up=False, air=air)
            assert await board.ended() == RESET_CODE  # it has made its identity
            await board.start(air=air)
            shown = (await board.line("keycast: pairing-secret ")).split()[-1]
            await board.line("keycast: pairing ")
            assert await house.app.pair("lamp.new", pairing_secret.octets(shown)) == "lamp.new"
            await board.line("paired: lamp.new ", timeout_s=PATIENCE_S)
            record = provisioning.parse(KeyStore(board.nvs.snapshot()).load(provisioning.RECORD))
            assert record.pne_id == "lamp.new" and record.pn_id == PN_ID
            house.boards["lamp.new"] = board
            house.server.create_group(SG, open_to=[PN_ID])
            names = list(house.boards)
            await asyncio.gather(*(house.boards[name].command("join", group=SG, timeout_s=180) for name in names))
            version = await keyed(house, SG, names)
            house.server.update_key(SG)
            await keyed(house, SG, names, above=version)
        finally:
            await board.stop()
