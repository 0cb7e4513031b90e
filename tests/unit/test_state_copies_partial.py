"""Backups without identity, and backups that are older than what they would replace."""

import asyncio
import shutil

import pytest

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.copies import state_copies
from keycast.copies.changes import OlderBackup
from keycast.services.home import open_home
from message_plane.identity import OwnIdentity
from private_store import archive, last_backup
from tests.unit.copies_world import LOCK, UNLOCK, back_up, keyed_again, octets_of, put_back
from tests.unit.home_world import BOARDS, SG, Home
from tests.unit.private_world import ERRORS

NEEDED = {"identity.key", "signing.key", "sessions.db", "store/gateway.db", "server/cpns_server.sqlite3"}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def backup(tmp_path):
    return tmp_path / "home.backup"


async def test_without_identity_it_holds_no_key_and_no_credential_and_says_so(home, backup):
    await home.lived()
    await back_up(home, backup, identity=False)
    assert octets_of(backup).keys() == NEEDED - {"identity.key", "signing.key", "sessions.db"}
    about = archive.manifest(backup)
    assert about["identity"] == "no" and about["boards"] == "3" and about["groups"] == "1"
    assert last_backup.noted(home.state)["made"] == about["made"] and last_backup.noted(home.state / "store") == {}
    secret = OwnIdentity.load(home.state / "identity.key").private_octets()
    for octets in octets_of(backup).values():
        assert secret not in octets and secret.hex().encode() not in octets


@pytest.mark.req("SEC-02", "SEC-33")
async def test_without_identity_it_is_put_back_where_that_still_is(home, backup):
    await home.lived()
    await back_up(home, backup, identity=False)
    identity = OwnIdentity.load(home.state / "identity.key").x
    for name in ("store", "server"):
        shutil.rmtree(home.state / name)
    made = await put_back(home, backup)
    assert OwnIdentity.load(home.state / "identity.key").x == identity and made.unknown == ()
    await keyed_again(home, made)


async def test_a_board_that_was_retired_since_is_a_stranger_where_the_identity_stayed(home, backup):
    await home.lived()
    await back_up(home, backup, identity=False)
    async with home.running() as service:
        service.app.registrar.retire("lamp")
    made = await put_back(home, backup)
    assert made.since.removed[0] == "board lamp" and made.unknown == ("lamp",)


async def test_without_identity_a_new_machine_refuses_it_unless_boards_are_paired_again(home, backup, tmp_path):
    await home.lived()
    await back_up(home, backup, identity=False)
    home.lose()
    with pytest.raises(ERRORS, match=r"has no identity, and .* has none either. Put back a backup .*--with-identity"):
        await put_back(home, backup)
    async with open_home(home.config):
        pass
    with pytest.raises(ERRORS, match=r"has no identity, and that in .* is another one"):
        await put_back(home, backup)
    made = await put_back(home, backup, new_identity=True)
    assert set(made.unknown) == set(BOARDS) and not (home.state / "identity.key").exists()
    async with home.running() as service:
        assert {group.sg_id for group in service.server.list_groups()} == {SG}
        assert service.app.credentials.registered() == []


async def test_without_identity_it_is_not_put_back_under_a_newer_signing_key(home, backup):
    await home.lived()
    await back_up(home, backup, identity=False)
    async with home.running() as service:
        service.app.roll_over()
    with pytest.raises(ERRORS, match="the signing key was rolled over since then"):
        await put_back(home, backup)


async def test_another_gateway_of_that_name_with_boards_is_not_replaced(home, backup, tmp_path):
    await home.lived()
    await back_up(home, backup)
    home.lose()
    await home.lived()
    with pytest.raises(ERRORS, match=r"has another identity than .*, which 3 peers know"):
        await put_back(home, backup)


# Older than what it replaces


@pytest.mark.req("SEC-02")
async def test_an_older_copy_is_refused_with_what_was_removed_since_unless_it_is_wanted(home, backup):
    await home.lived()
    await back_up(home, backup)
    async with home.running() as service:
        service.server.create_group("home/later", open_to=["home"])
        service.server.expel(SG, "door")
    before = {path: path.read_bytes() for path in (home.state / "server").iterdir()}
    with pytest.raises(OlderBackup) as refused:
        await put_back(home, backup, older=False)
    assert "Removed since then, and in the backup: member door of home/lights." in str(refused.value)
    assert "Added since then, and not in the backup: group home/later." in str(refused.value)
    assert "--older" in str(refused.value)
    assert {path: path.read_bytes() for path in (home.state / "server").iterdir()} == before
    assert (await put_back(home, backup)).since.removed == ("member door of home/lights",)


async def test_a_copy_of_what_is_still_there_needs_no_word(home, backup):
    await home.lived()
    await back_up(home, backup)
    await keyed_again(home, await put_back(home, backup, older=False))
    with pytest.raises(OlderBackup, match="Since then keys were made"):
        await put_back(home, backup, older=False)


# A CPNS Server on its own


@pytest.mark.req("SEC-03")
async def test_a_server_without_identity_comes_back_where_that_still_is(tmp_path):
    state, backup = tmp_path / "server", tmp_path / "server.backup"
    config = ServerConfig(id="srv", listen=["127.0.0.1"], port=0)
    gateway = OwnIdentity.create(tmp_path / "gw.key", "gw.home", "gateway").credential
    server = await CpnsServer.open(state, config)
    server.register_gateway("gw.home", "home", gateway.ccs, is_open=True)
    server.create_group(SG, open_to=["home"])
    credential = server.credential()
    await server.close()
    server_id, images = state_copies.stopped_server(state)
    state_copies.write_server_backup(server_id, backup, images, LOCK, identity=False)
    assert octets_of(backup).keys() == {"cpns_server.sqlite3"}
    (state / "cpns_server.sqlite3").unlink()

    def restore():
        with state_copies.server_state(state):
            return state_copies.put_back_server(state, backup, UNLOCK)

    assert (await asyncio.to_thread(restore)).held == (SG,)
    server = await CpnsServer.open(state, config)
    assert server.credential() == credential and server._sessions._sessions.credential("gw.home") == gateway
    await server.close()
    shutil.rmtree(state)
    with pytest.raises(ERRORS, match=r"has no identity, and .* has none either"):
        await asyncio.to_thread(restore)
