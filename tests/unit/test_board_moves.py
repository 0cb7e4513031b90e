"""Boards that move from one home to another, and two commands for one name at once (SEC-31, SEC-33)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from device_agent import pending, unpaired
from keycast.board.faults import BoardSilent, ProvisioningFault
from keycast.board.provisioning import Wifi, provision
from message_plane.errors import NameTaken
from tests.unit import test_board_provisioning as desk
from tests.unit.board_flash import Firmware, Remembering, remains
from tests.unit.test_board_provisioning import HOWS, BoardHere, Door, let_in, make, wanted
from tests.unit.test_gateway_app import opened

app, door, radio_first = desk.app, desk.door, desk.radio_first
OTHER_WIFI = Wifi("other house", "another password of 32 characters")


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Door]:
    """The gateway of another home."""
    (tmp_path / "other").mkdir()
    app = await opened(tmp_path / "other")
    yield Door(app)
    await app.close()


@pytest.mark.req("SEC-31", "SEC-33")
async def test_the_power_fails_at_any_write_while_a_board_moves_to_another_home(door: Door, other: Door) -> None:
    board = BoardHere()
    make(door, board)
    before = dict(board.medium.octets)
    with pytest.raises(ProvisioningFault, match="already"):
        make(other, board)
    assert board.medium.octets == before and not other.app.credentials.registered()
    moved = set()
    for how in HOWS:
        dies_at, cut = 0, True
        while cut:
            dies_at += 1
            board = BoardHere(dict(before))
            board.dies(dies_at, how)
            cut = False
            try:
                make(other, board, replace=True, wifi=OTHER_WIFI)
            except BoardSilent:
                cut = True
            board.power_on()
            present = board.present
            assert present is not None
            is_moved = present.gateway_ccs == other.app.identity.credential.ccs
            moved.add(is_moved)
            assert let_in(other if is_moved else door, board)
            assert board.store.load("wifi") == (OTHER_WIFI if is_moved else desk.WIFI).record()
            make(other, board, replace=True, wifi=OTHER_WIFI)
            assert let_in(other, board) and board.store.load(pending.RECORD) is None
            other.app.registrar.retire("lamp.porch")
    assert moved == {True, False}


@pytest.mark.req("CPNS-GKM-77", "SEC-20")
async def test_a_board_that_has_moved_has_nothing_of_the_first_home_in_its_flash(
    door: Door, other: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware, board = Firmware(monkeypatch), BoardHere()
    board.medium = medium = Remembering(firmware.store())  # type: ignore[assignment]
    board.start = lambda: pending.finish(board.store)  # type: ignore[method-assign, assignment]
    make(door, board, labelled=True)
    present, label = board.present, unpaired.secret(board.store, unpaired.LABEL)
    assert present is not None
    old = [present.private_key, desk.PASSWORD.encode(), label, door.app.identity.credential.x]
    assert all(remains(firmware.octets, [each], []) or each == label for each in old)
    make(other, board, replace=True, wifi=OTHER_WIFI)
    assert not remains(firmware.octets, medium.values, firmware.held())
    assert not remains(firmware.octets, old, []) and label not in bytes(firmware.octets)


@pytest.mark.req("SEC-31", "SEC-33")
@pytest.mark.parametrize("step", ["makes its key", "restarts", "is let in at the gateway"])
@pytest.mark.parametrize("replaces", [False, True])
async def test_of_two_commands_for_one_name_one_has_it_and_the_other_leaves_nothing(
    door: Door, step: str, replaces: bool
) -> None:
    first, second, holder = BoardHere(), BoardHere(), BoardHere()
    if replaces:
        make(door, holder)

    def meanwhile(words: str) -> None:
        if words == step:
            make(door, second, replace=replaces)

    if not replaces:
        with pytest.raises(NameTaken):
            provision(first, door, wanted(door), meanwhile)
        assert let_in(door, second) and first.present is None and first.store.load(pending.RECORD) is None
        return
    provision(first, door, wanted(door, replace=True), meanwhile)
    assert holder.present is not None and door.standing(holder.present.ccs) == "registered"
    assert first.present is not None and door.standing(first.present.ccs) == "successor"  # the last one that was named
    assert not let_in(door, second)
