"""A board that says on its serial port that it is another one, or shows the key of somebody else, gains nothing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from device_agent import provisioning
from gateway_agent.errors import GatewayError
from keycast.board.faults import ProvisioningFault
from message_plane.credentials import ccs_of
from message_plane.errors import RegistrationRefused
from tests.unit import test_board_provisioning as honest
from tests.unit.test_board_provisioning import BoardHere, Door, make

app, door, radio_first = honest.app, honest.door, honest.radio_first


class LyingBoard(BoardHere):
    """A board that answers the call of a function in `lies` with what stands there."""

    def __init__(self, **lies: Any) -> None:
        super().__init__()
        self.lies = lies

    def run(self, program: str) -> str:
        called = program.rstrip().rpartition("\n")[2].partition("(")[0]
        return json.dumps(self.lies[called]) + "\n" if called in self.lies else super().run(program)


def seen(**identities: provisioning.Provisioning) -> dict[str, Any]:
    shown = {name: [each.pne_id, each.ccs.hex(), each.gateway_ccs.hex()] for name, each in identities.items()}
    radios = {"wifi": "house", "ble": False, "board": None, "machine": "a module with ESP32", "has_bluetooth": True}
    return {"present": None, "pending": None, "damaged": [], "repaired": 0, **radios, **shown}


@pytest.mark.req("SEC-16", "SEC-31")
@pytest.mark.parametrize("of", ["lamp.porch", "door"])
@pytest.mark.parametrize("fails", ["begin", "complete", "confirm", "put_in_force"])
async def test_a_board_that_claims_to_be_another_ends_nothing_of_it(
    door: Door, monkeypatch: pytest.MonkeyPatch, of: str, fails: str
) -> None:
    """It shows the public key of a board that is in, as pending or as its own, and then fails."""
    living = BoardHere()
    make(door, living, of)
    assert living.present is not None
    monkeypatch.setattr(door.app.registrar, "_has_session", lambda pne_id: True)
    for claims in ("pending", "present"):
        ccs = living.present.ccs.hex()
        liar = LyingBoard(look=seen(**{claims: living.present}), begin=ccs, begin_again=ccs, in_force=False)
        liar.lies[fails] = {"it": "fails"}
        with contextlib.suppress(GatewayError):
            make(door, liar, replace=claims == "present")
        assert door.standing(living.present.ccs) == "registered", claims


@pytest.mark.req("SEC-16", "SEC-31")
async def test_a_board_that_has_a_name_shows_no_other_key_under_it(door: Door) -> None:
    for replace in (False, True):
        board, name = LyingBoard(), f"lamp.{replace}"
        make(door, board, name)
        assert board.present is not None
        own, other = board.present.ccs, ccs_of(name, door.app.identity.credential.x)
        wrong = own if replace else other  # the one that it has, where a new one is wanted; and the other way about
        board.lies = {"begin": wrong.hex(), "begin_again": wrong.hex()}
        with pytest.raises(ProvisioningFault, match="another key"):
            make(door, board, name, replace=replace)
        assert door.standing(own) == "registered"


@pytest.mark.parametrize("ccs", ["", "00", "a1", "a2026161" * 8, ccs_of("lamp.porch", b"\xff" * 32).hex()])
async def test_a_key_that_is_none_is_refused_before_anything_is_registered(door: Door, ccs: str) -> None:
    for lies in ({"begin": ccs}, {"look": seen() | {"pending": ["lamp.porch", ccs, "", ""]}}):
        board = LyingBoard(**lies)
        with pytest.raises(ProvisioningFault, match="key is none"):
            make(door, board)
    assert not door.app.credentials.registered()


@pytest.mark.req("SEC-17")
async def test_the_key_of_the_gateway_is_that_of_no_board(door: Door) -> None:
    own, digest = ccs_of("lamp.porch", door.app.identity.credential.x).hex(), "00" * 32
    board = LyingBoard(begin=own, complete=[digest, None], confirm=digest, put_in_force=True)
    with pytest.raises(RegistrationRefused, match="of this gateway"):
        make(door, board)
    assert not door.app.credentials.registered()
