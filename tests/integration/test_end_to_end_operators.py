"""What an operator does at the Server with boards of end-to-end groups, seen at the boards: restore and retire."""

import asyncio
import os

import pytest

from cpns import messages as m
from cpns import numbers as n
from keycast.copies import state_copies
from private_store import sealed
from tests.integration.end_to_end_attacker import TO_BOARD, HostileGateway
from tests.integration.end_to_end_house import HOUR, SG, open_house, until


@pytest.fixture
async def house(tmp_path):
    """A home with a board that has a session with the Server, and one that was provisioned; both hold a key."""
    async with open_house(tmp_path) as house:
        await house.gateway("home", HostileGateway)
        house.create()
        await house.member("lamp")
        await house.board("door", provisioned=True)
        await house.member("door")
        await until(lambda: house.holds_newest())
        yield house
        house.check()


@pytest.mark.req("SEC-03", "SEC-25")
async def test_after_a_restore_boards_get_the_key_of_the_new_epoch_though_nobody_starts_them_anew(house):
    lamp, door = house.boards["lamp"], house.boards["door"]
    old, provisioned = lamp.euks()[0], door.euks()
    await house.server.app.restore()
    house.server.app.confirm_members(SG)
    await until(lambda: house.holds_newest())
    assert house.server.version() >= 0x10000
    (new,) = lamp.euks()
    assert new != old and door.euks() == provisioned
    returns = [
        seen.fields[m.RETURN] for seen in house.hostile.of(TO_BOARD, n.S_GROUP_KEY_DELIVERY_RESPONSE, answer=True)
    ]
    assert "3" in returns and not house.server.app.alarms()


@pytest.mark.req("SEC-02", "SEC-25")
async def test_after_a_backup_was_put_back_boards_have_new_sessions_and_a_provisioned_one_is_admitted_anew(
    house, tmp_path
):
    lamp, door = house.boards["lamp"], house.boards["door"]
    backup, server = tmp_path / "backup", house.server
    lock = sealed.Lock({"kind": "of this test"}, os.urandom(32))
    state_copies.write_server_backup(server.config.id, backup, server.app.images(), lock, identity=True)
    await server.stop()
    put_back = await asyncio.to_thread(state_copies.put_back_server, server.folder, backup, sealed.with_key_of(lock))
    assert put_back.held == (SG,)
    old = lamp.euks()[0]
    await server.start()
    server.app.confirm_members(SG)
    await until(lambda: house.holds_newest("lamp"))
    assert lamp.euks()[0] != old and not house.holds_newest("door")
    await until(lambda: server.app.alarms())
    assert {alarm.kind for alarm in server.app.alarms()} == {"no-entity-key"}
    house.admit(door)
    await until(lambda: house.holds_newest())
    assert not server.app.alarms()


@pytest.mark.req("SEC-31", "SEC-32")
async def test_a_board_that_is_retired_at_the_server_gets_no_key_after_it(house):
    lamp = house.boards["lamp"]
    before = lamp.version()
    house.server.app.retire_pne("lamp")
    await until(lambda: house.holds_newest("door") and house.server.version() > before)
    await lamp.restart()  # then it pulls
    await asyncio.sleep(HOUR)
    assert lamp.version() <= before and lamp.key() != house.server.key()
    house.admit(lamp)  # the name may come back, without a right of before
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest("door"))
    assert lamp.version() <= before
