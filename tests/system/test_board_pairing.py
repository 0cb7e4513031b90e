"""The identity, the secret and the pairing window of a board that has no application, in the MicroPython VM."""

import asyncio

import pytest

from cpns import cborlite
from device_agent import provisioning, unpaired
from device_agent.key_store import KeyStore
from gateway_agent import pairing_secret
from keycast.virtual_board import board as virtual_board
from keycast.virtual_board.board import BoardEnded, VirtualBoard
from tests.system.test_virtual_board import record

FIRST_NUMBER = 12_600  # 127.0.114.x: nobody else's in this project
BUTTON = 7  # its pin


def blank(folder, number):
    return VirtualBoard.create(folder, FIRST_NUMBER + number, b"")


def identity_of(board):
    return provisioning.parse(KeyStore(board.nvs).load(provisioning.RECORD))


async def switch_on(board):
    """Switch the power on; a board that has made its identity resets itself once."""
    try:
        await board.start()
    except BoardEnded:
        assert board.exit_code == virtual_board.RESET_CODE
        await board.start()


async def secret_of(board, since=0):
    return (await board.line("keycast: pairing-secret ", since=since)).split()


@pytest.mark.req("SEC-20", "SEC-33")
@pytest.mark.parametrize("how", ["before", "torn", "after"])
async def test_wherever_the_power_goes_at_its_first_start_a_board_has_one_identity_and_one_secret(tmp_path, how):
    async def cut(n):
        board = blank(tmp_path / str(n), n)
        await board.start(power_cut=f"{n}:{how}", up=False)
        assert await board.ended() == virtual_board.POWER_CUT_CODE
        found = []
        for _ in (0, 1):
            since = len(board.events)
            await switch_on(board)
            found.append((await secret_of(board, since), identity_of(board).private_key))
            await board.kill()
        assert found[0] == found[1]
        name, shown = found[0][0]
        assert name == f"board-{board.number:06x}"
        assert pairing_secret.octets(shown) == unpaired.secret(KeyStore(board.nvs))

    await asyncio.gather(*map(cut, range(1, 7)))  # seed, identity and secret, in two copies each


@pytest.mark.req("SEC-04", "SEC-31")
async def test_a_board_whose_identity_is_damaged_says_so_and_makes_no_other(tmp_path):
    board = VirtualBoard.create(tmp_path / "board", FIRST_NUMBER + 20, record("lamp"))
    for copy in "01":
        board.nvs.set(provisioning.RECORD + copy, bytes(100))
    await board.start(up=False)
    await board.line("keycast: damaged")
    await board.kill()
    assert KeyStore(board.nvs).load(provisioning.RECORD) is None
    assert not any("pairing" in str(event) for event in board.events)


async def test_without_a_wifi_name_a_board_shows_its_secret_and_waits_for_a_tool(tmp_path):
    board = blank(tmp_path / "board", 21)
    KeyStore(board.nvs).erase("wifi")
    await board.start(up=False)
    await secret_of(board)
    await board.line("keycast: unprovisioned")
    await board.kill()
    assert not any(event["event"] == "up" for event in board.events)


@pytest.mark.req("SEC-20")
async def test_a_board_with_a_gateway_opens_its_window_only_when_its_button_is_held_and_shows_a_new_secret(tmp_path):
    pins = tmp_path / "pins"
    pins.mkdir()
    button = pins / str(BUTTON)
    board = VirtualBoard.create(tmp_path / "board", FIRST_NUMBER + 22, record("lamp"))
    KeyStore(board.nvs).save("board", cborlite.encode([1, "virtual", -1, "plain", BUTTON, []]))
    await board.start(more={"BOARD_PINS": str(pins)})
    seen = []
    for _ in (0, 1):
        since = len(board.events)
        assert not any("pairing" in str(event) for event in board.events[since:])
        await board.command("status")  # its button was seen as not pressed meanwhile
        button.write_text("0")
        name, shown = await secret_of(board, since)
        await board.line("keycast: pairing ", since=since)
        assert name == "lamp" and KeyStore(board.nvs).load(unpaired.RECORD) is None
        seen.append(shown)
        button.write_text("1")
        await board.kill()
        await board.start(more={"BOARD_PINS": str(pins)})
    await board.kill()
    assert seen[0] != seen[1]
