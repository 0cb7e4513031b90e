"""The radios that a provisioned board uses: what it has, what fits its memory, and what the gateway has."""

import dataclasses
from typing import Any

import pytest
from dying_medium import Dying

from cpns import cborlite
from device_agent import pending
from device_agent.key_store import KeyStore
from keycast.board import board_record
from keycast.board.faults import ProvisioningFault
from keycast.board.provisioning import Found, WantedBoard, Wifi
from keycast.hardware.catalogue import all_boards
from keycast.provisioning.board import Trust, new_board
from message_plane import credentials

BOARDS = all_boards()
WIFI = Wifi("house", "a password")
KNOWS = Found(None, None, "house", (), 0, True, "", "esp32", True)  # a board with both radios
BLANK = dataclasses.replace(KNOWS, wifi=None, ble=False)
POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
TRUST = Trust(credentials.of("gw.home", "gateway", POINT), bytes(64), 1, "home", "", 0x1234)
BOTH, ONE = "esp32-devkitc", "xiao-esp32c3"
BLE_ONLY = {"without_wifi": True, "wifi": None}


def records(found: Found, **how: Any) -> dict[str, bytes]:
    """The records that change; True for one that is written."""
    wanted = WantedBoard(**{"pne_id": "lamp", "trust": TRUST, "wifi": WIFI, "hardware": BOARDS, **how})
    return wanted.radio_records(found)


RECORD_OF_BLE = cborlite.encode([1, 0x1234])
WITH_WIFI = {"wifi": WIFI.record()}
WITH_BLE = {"ble": RECORD_OF_BLE}


@pytest.mark.parametrize(
    ("name", "how", "expected"),
    [
        ("", {}, WITH_WIFI | WITH_BLE),
        (BOTH, {}, WITH_WIFI | WITH_BLE),
        (BOTH, {"without_ble": True}, WITH_WIFI),
        (BOTH, BLE_ONLY, WITH_BLE | {"wifi": b""}),
        (ONE, {}, WITH_WIFI),
        (ONE, BLE_ONLY, WITH_BLE | {"wifi": b""}),
        ("a board of another version", {}, WITH_WIFI | WITH_BLE),
        (BOTH, {"trust": dataclasses.replace(TRUST, company_id=None)}, WITH_WIFI),
    ],
    ids=str,
)
def test_a_board_gets_the_radios_that_it_can_use_at_a_time(name, how, expected):
    assert records(dataclasses.replace(BLANK, board=name), **how) == expected


@pytest.mark.parametrize("name", ["", "a board of another version"])
@pytest.mark.parametrize(
    ("chip", "expected"), [("esp32c3", WITH_WIFI), ("esp32c6", WITH_WIFI), ("", WITH_WIFI | WITH_BLE)]
)
def test_a_board_that_is_not_known_gets_as_many_radios_as_others_with_its_chip(name, chip, expected):
    assert records(dataclasses.replace(BLANK, board=name, chip=chip)) == expected


def test_the_name_that_the_command_gives_decides():
    record = board_record.pack(ONE, BOARDS[ONE])
    assert records(dataclasses.replace(BLANK, board=BOTH), board=record) == WITH_WIFI


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"wifi": None}, WITH_BLE),
        ({"wifi": None, "without_ble": True}, {"ble": b""}),
        ({"wifi": None, "trust": dataclasses.replace(TRUST, company_id=None)}, {"ble": b""}),
        (BLE_ONLY, WITH_BLE | {"wifi": b""}),
    ],
    ids=str,
)
def test_what_a_board_knows_stays_or_is_erased(how, expected):
    assert records(KNOWS, **how) == expected


@pytest.mark.parametrize(
    ("found", "how", "reason"),
    [
        (BLANK, {"wifi": None}, "no name of a Wi-Fi"),
        (BLANK, BLE_ONLY | {"trust": dataclasses.replace(TRUST, company_id=None)}, "does not use Bluetooth LE"),
        (dataclasses.replace(BLANK, has_bluetooth=False), BLE_ONLY, "has no Bluetooth"),
        (BLANK, BLE_ONLY | {"without_ble": True}, "neither"),
    ],
    ids=str,
)
def test_a_board_without_any_radio_is_refused(found, how, reason):
    with pytest.raises(ProvisioningFault, match=reason):
        records(found, **how)


def test_a_record_that_comes_empty_is_erased_with_the_new_identity():
    store = KeyStore(Dying({}, 0, "whole"))
    store.save("wifi", WIFI.record())
    identity, _ = new_board("lamp", TRUST)
    pending.install(store, identity, {"wifi": b"", "ble": RECORD_OF_BLE})
    assert store.load("wifi") is None and store.load("ble") == RECORD_OF_BLE
