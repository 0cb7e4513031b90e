"""A board is told of its CPNS Server on its port, and gets an Entity User Key: with its identity, or not at all."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite
from device_agent.end_to_end import entity_user_keys
from keycast.board import provisioning as host
from keycast.board.faults import BoardSilent, ProvisioningFault
from keycast.board.provisioning import Wifi
from keycast.provisioning.board import trust_of
from message_plane import credentials
from tests.unit.test_board_provisioning import (
    HOWS,
    BoardHere,
    Door,
    app,
    door,
    let_in,
    make,
    on_board,
    radio_first,
    wanted,
)

__all__ = ["app", "door", "radio_first"]  # fixtures


def server(number: int) -> bytes:
    """The credential of a CPNS Server with a key of its own."""
    point = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
    return credentials.of("server.local", "server", point.x.to_bytes(32, "big")).ccs


EUK = bytes(range(16))


@pytest.mark.req("SEC-25")
async def test_a_board_pins_the_server_of_its_gateway_and_no_word_of_that_gateway_changes_it(door: Door) -> None:
    board, trust = BoardHere(), replace(trust_of(door.app), server_ccs=server(5))
    done = make(door, board, trust=trust)
    assert board.present is not None and board.present.server_ccs == server(5) == done.identity.server
    assert done.identity.ccs == board.present.ccs
    for told in (server(6), b""):
        done = make(door, board, trust=replace(trust, server_ccs=told))
        assert board.present.server_ccs == server(5) == done.identity.server
    done = make(door, board, server_ccs=server(6))
    assert not done.new and board.present.server_ccs == server(6) == done.identity.server


@pytest.mark.req("SEC-25")
async def test_with_another_server_what_came_from_the_former_ends_and_what_came_from_the_gateway_stays(
    door: Door,
) -> None:
    """Session and keys of the one before are of no use; Group Keys that are held need not come once more."""
    board = BoardHere()
    make(door, board, server_ccs=server(5), entity_user_key=EUK)
    kept = {"sess": b"with the gateway", "groups": cborlite.encode([None, []])}
    for name, octets in ({"ssess": b"with the Server"} | kept).items():
        board.store.save(name, octets)
    make(door, board, server_ccs=server(5))
    assert board.store.load("ssess") and entity_user_keys.parse(board.store.load("euk")) == (EUK, b"")
    make(door, board, server_ccs=server(6))
    assert board.store.load("ssess") is None and board.store.load("euk") is None
    assert {name: board.store.load(name) for name in kept} == kept
    board.store.save("ssess", b"with the Server")
    make(door, board, server_ccs=b"", entity_user_key=EUK)
    assert board.store.load("ssess") is None and entity_user_keys.parse(board.store.load("euk")) == (EUK, b"")


@pytest.mark.req("SEC-25")
async def test_a_new_identity_pins_the_server_that_a_person_names_or_that_of_the_gateway(door: Door) -> None:
    board, trust = BoardHere(), replace(trust_of(door.app), server_ccs=server(5))
    make(door, board, trust=trust, server_ccs=server(6))
    assert board.present is not None and board.present.server_ccs == server(6)
    make(door, board, trust=trust, replace=True)
    assert board.present.server_ccs == server(5)
    make(door, board, replace=True)
    assert board.present.server_ccs == b""


@pytest.mark.req("SEC-25")
async def test_the_gateways_own_credential_is_refused_before_the_board_is_asked_anything(door: Door) -> None:
    with pytest.raises(ProvisioningFault, match=r"is that of the gateway.*keycast server credential"):
        make(door, board := BoardHere(), server_ccs=door.app.identity.credential.ccs)
    assert board.present is None and not let_in(door, board)


@pytest.mark.req("SEC-25")
async def test_an_entity_user_key_is_put_in_force_with_the_identity_and_leaves_no_trace_elsewhere(door: Door) -> None:
    board = BoardHere()
    make(door, board, entity_user_key=EUK)
    assert entity_user_keys.parse(board.store.load("euk")) == (EUK, b"")
    make(door, board, wifi=Wifi("other house", ""))
    assert entity_user_keys.parse(board.store.load("euk")) == (EUK, b"")
    make(door, board, entity_user_key=EUK[::-1])
    assert entity_user_keys.parse(board.store.load("euk")) == (EUK[::-1], b"")
    assert EUK.hex() not in board.printed and repr(EUK) not in repr(wanted(door, entity_user_key=EUK))
    make(door, board, replace=True)
    assert board.store.load("euk") is None


@pytest.mark.req("SEC-25", "SEC-33")
async def test_an_entity_user_key_survives_a_power_cut_at_any_write_or_the_board_has_nothing_of_it(door: Door) -> None:
    for how in HOWS:
        at, cut = 0, True
        while cut:
            at += 1
            board = BoardHere()
            board.dies(at, how)
            with contextlib.suppress(BoardSilent):
                make(door, board, f"lamp.{how}.{at}", entity_user_key=EUK, server_ccs=server(5))
            cut = board.is_off
            board.power_on()
            if let_in(door, board):
                assert entity_user_keys.parse(board.store.load("euk")) == (EUK, b"")
                assert board.present is not None and board.present.server_ccs == server(5)
            make(door, board, f"lamp.{how}.{at}", entity_user_key=EUK[::-1], server_ccs=server(5))
            assert entity_user_keys.parse(board.store.load("euk")) == (EUK[::-1], b"")


def test_a_board_whose_files_take_no_server_is_to_be_flashed() -> None:
    fault = ProvisioningFault.answered("TypeError", None, "TypeError: function takes 10 positional arguments")
    assert "another version" in str(fault) and "keycast board flash" in str(fault)


async def test_files_from_before_end_to_end_groups_are_told_of_no_server(door: Door) -> None:
    """They take six values, and their identities have no `server_ccs`."""
    board = BoardHere()
    make(door, board)
    completed = next(each for each in board.programs if each.rstrip().splitlines()[-1].startswith("complete("))
    octets = bytes.fromhex(completed.rstrip().splitlines()[-1].split("'")[1])
    assert len(cborlite.decode(octets)) == 7
    shown: dict[str, Any] = {}
    with on_board(board.medium):
        exec(host._PROGRAM.read_text(), shown)
    assert shown["shown"](SimpleNamespace(pne_id="lamp", ccs=b"\x01", gateway_ccs=b"")) == ["lamp", "01", "", ""]
