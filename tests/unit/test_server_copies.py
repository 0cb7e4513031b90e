"""Backups of KMS, GMS and CMS: one file, made while the server runs, put back into what is left (SEC-33)."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from key_servers.cms.app import CmsConfig, CmsServer
from key_servers.cms.operator import open_profiles
from key_servers.errors import ServerError, StoreInUse
from key_servers.gms.operator import open_management
from key_servers.https.listening import Listening
from key_servers.kms import master_secrets
from key_servers.kms.app import KmsServer
from key_servers.kms.config import MASTER_SECRETS_FILE, KmsConfig
from keycast.copies import backup_facts
from keycast.copies.changes import OlderBackup
from keycast.copies.server_copies import CMS, GMS, KMS, NUMBER_STEP, back_up, put_back, state_of
from keycast.services.server_config import require_whole
from private_store import archive, restoring, sealed
from tests.unit.kms_world import ALICE, BOB
from tests.unit.kms_world import master_secrets as drawn_secrets
from tests.unit.private_world import full_disk

LOCK = sealed.Lock({"kind": "of this test"}, os.urandom(32))
GROUP = "sip:crew@gms.example.org"
GMS_URI = "sip:gms.example.org"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def backup(tmp_path):
    return tmp_path / "a.backup"


def make(server, state, path, database, identity=True):
    back_up(server, state, path, database, LOCK, identity=identity)


def restore(server, state, path, database, older=True):
    return put_back(server, state, path, database, sealed.with_key_of(LOCK), older=older)


async def in_thread(call, *arguments):
    """As a command: it has an event loop of its own."""
    return await asyncio.to_thread(call, *arguments)


def rows(path, statement):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement).fetchall()


async def kms_with_users(state):
    master_secrets.create(state / MASTER_SECRETS_FILE, drawn_secrets())
    async with await KmsServer.open(KmsConfig(state_dir=state), listen=False) as kms:
        for user in (ALICE, BOB):
            await kms.add_user(user)
    return rows(state / "kms.sqlite3", "SELECT * FROM kms_tokens ORDER BY user_uri")


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("left", ["everything", "nothing", "a damaged store"])
async def test_a_kms_comes_back_with_its_secrets_and_who_was_revoked_stays_so(state, backup, left):
    tokens = await kms_with_users(state)
    async with await KmsServer.open(KmsConfig(state_dir=state), listen=False) as kms:
        await in_thread(make, KMS, state, backup, None)  # beside one that runs
        await kms.revoke_user(BOB)
        await kms.add_user("sip:carol@example.org")
        await kms.revoke_user("sip:carol@example.org")
    assert backup.stat().st_mode & 0o777 == 0o600
    if left == "nothing":
        shutil.rmtree(state)
    elif left == "a damaged store":
        (state / "kms.sqlite3").write_bytes(b"x" * 8192)
    await in_thread(restore, KMS, state, backup, None)
    assert master_secrets.load(state / MASTER_SECRETS_FILE) == drawn_secrets()
    async with await KmsServer.open(KmsConfig(state_dir=state), listen=False) as kms:
        revoked = {user.user_uri for user in await kms.users() if user.revoked_at is not None}
    assert revoked == ({BOB, "sip:carol@example.org"} if left == "everything" else set())
    assert rows(state / "kms.sqlite3", "SELECT * FROM kms_tokens ORDER BY user_uri") == tokens
    assert rows(state / "kms.sqlite3", "SELECT newest FROM kms_cache_number")[0][0] >= NUMBER_STEP
    assert not list(state.rglob("*-wal")) and not list(state.glob("restore.*"))


@pytest.mark.req("SEC-33")
async def test_a_profile_that_comes_back_is_newer_than_any_that_was_given_out(state, backup, monkeypatch):
    async with await CmsServer.open(CmsConfig(state_dir=state)) as cms:
        await cms.profiles.add_user(ALICE)
        await cms.profiles.put_membership(ALICE, GROUP, GMS_URI)
        await in_thread(make, CMS, state, backup, None)
        given = (await cms.profiles.profile(ALICE)).revision
    now = backup_facts.time.time()
    for age_s, lost in ((0, False), (0, False), (60, True), (120, True)):  # twice at once, and twice on new disks
        if lost:
            shutil.rmtree(state)
        monkeypatch.setattr(backup_facts.time, "time", lambda age_s=age_s: now + age_s)
        await in_thread(restore, CMS, state, backup, None)
        async with open_profiles(Listening(state_dir=state)) as profiles:
            found = await profiles.profile(ALICE)
            assert found.groups == {GROUP: GMS_URI} and found.revision > given
            given = await profiles.put_membership(ALICE, "sip:more@gms.example.org", GMS_URI)


async def test_a_kms_without_identity_comes_back_where_its_master_secrets_are(state, backup):
    tokens = await kms_with_users(state)
    await in_thread(make, KMS, state, backup, None, False)
    assert archive.read(backup, sealed.with_key_of(LOCK)).members.keys() == {"kms.sqlite3"}
    (state / "kms.sqlite3").unlink()
    await in_thread(restore, KMS, state, backup, None, False)
    assert rows(state / "kms.sqlite3", "SELECT * FROM kms_tokens ORDER BY user_uri") == tokens
    async with await KmsServer.open(KmsConfig(state_dir=state), listen=False) as kms:
        await kms.revoke_user(BOB)
    with pytest.raises(OlderBackup, match=f"in the backup: user {BOB}"):
        await in_thread(restore, KMS, state, backup, None, False)
    shutil.rmtree(state)
    with pytest.raises(ServerError, match="has no identity"):
        await in_thread(restore, KMS, state, backup, None)


async def test_a_gms_comes_back_with_its_groups_and_keys(state, backup):
    async with open_management(Listening(state_dir=state)) as manage:
        await manage.add_user(ALICE)
        await manage.create_group(GROUP, "the crew", rekey_on_removal=True)
        key_id = await manage.make_key([GROUP])
    await in_thread(make, GMS, state, backup, None)
    gmk = rows(state / "gms.sqlite3", "SELECT gmk FROM gms_keys")
    shutil.rmtree(state)
    assert (await in_thread(restore, GMS, state, backup, None))[0] == archive.manifest(backup)["made"]
    async with open_management(Listening(state_dir=state)) as manage:
        ((group, _, held),) = await manage.groups()
    assert (group.uri, group.name, [key.key_id for key in held]) == (GROUP, "the crew", [key_id])
    assert rows(state / "gms.sqlite3", "SELECT gmk FROM gms_keys") == gmk


def snapshot(state):
    return {path: path.read_bytes() for path in state.rglob("*") if path.is_file() and path.name != restoring.LOCK}


@pytest.mark.req("SEC-23", "SEC-33")
async def test_what_cannot_be_put_back_leaves_the_server_as_it_is(state, backup, tmp_path):
    await kms_with_users(state)
    await in_thread(make, KMS, state, backup, None)
    before = snapshot(state)
    with state_of(KMS, state, None), pytest.raises(StoreInUse, match=rf"Process {os.getpid()} already uses .* Stop it"):
        restore(KMS, state, backup, None)
    with pytest.raises(ServerError, match=r"is a backup of the kms kms\.example\.org, and not of gms"):
        restore(GMS, state, backup, None)
    other = tmp_path / "other"
    master_secrets.create(other / MASTER_SECRETS_FILE, drawn_secrets("kms.other"))
    with pytest.raises(ServerError, match=r"and not of kms kms\.other"):
        restore(KMS, other, backup, None)
    for database in (make, restore):
        with pytest.raises(ServerError, match=r"pg_dump.* Keep a copy of master_secrets.json"):
            database(KMS, state, backup, "postgresql://")
    with full_disk(), pytest.raises(ServerError, match="Check the space"):
        restore(KMS, state, backup, None)
    backup.write_bytes(backup.read_bytes()[:-60])
    with pytest.raises(ServerError, match="damaged"):
        restore(KMS, state, backup, None)
    assert snapshot(state) == before and not list(state.glob("restore.*"))


@pytest.mark.req("SEC-33")
async def test_a_restore_that_was_cut_is_finished_by_the_start_and_nothing_is_opened_before(state, backup, monkeypatch):
    tokens = await kms_with_users(state)
    await in_thread(make, KMS, state, backup, None)
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "finish", lambda *_: None)
        await in_thread(restore, KMS, state, backup, None)
    for refused in (lambda: require_whole(state), lambda: make(KMS, state, backup.with_name("b"), None)):
        with pytest.raises(ServerError, match="was cut short"):
            refused()
    with state_of(KMS, state, None):
        require_whole(state)
        assert rows(state / "kms.sqlite3", "SELECT * FROM kms_tokens ORDER BY user_uri") == tokens


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), r"state\.lock is a link\. Put the file itself"),
        (lambda path: path.mkdir(), r"state\.lock is no ordinary file\. Put back the right file"),
        (os.mkfifo, r"state\.lock is no ordinary file"),
    ],
    ids=["link", "folder", "pipe"],
)
def test_what_lies_in_the_place_of_a_lock_is_named(state, put, words):
    state.mkdir(mode=0o700)
    put(state / restoring.LOCK)
    with pytest.raises(ServerError, match=words), state_of(GMS, state, None):
        pass


def test_a_backup_of_nothing_is_refused_and_makes_nothing(state, backup):
    for server, words in ((KMS, "does not exist"), (GMS, "does not exist"), (CMS, "does not exist")):
        with pytest.raises(ServerError, match=words):
            make(server, state, backup, None)
    state.mkdir(mode=0o700)
    for server, words in ((KMS, "keycast kms init"), (GMS, "no state of a GMS"), (CMS, "no state of a CMS")):
        with pytest.raises(ServerError, match=words):
            make(server, state, backup, None)
    assert os.listdir(state) == [] and not backup.exists()
