"""The backup of a whole home in one file, and its restore: after any loss, into what is left, cut anywhere (SEC-02,
-03, -33)."""

import asyncio
import base64
import os
import re
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import typer

from gateway_agent.observe.observer import ServerFacts
from gateway_agent.state_files import own_keys
from gateway_agent.val_client.app import GROUPS_FILE
from gateway_agent.val_client.bridged_groups import BridgedGroup, BridgedGroups
from gateway_agent.val_client.gmk_store import GmkStore, StoredGmk
from gateway_agent.val_client.key_material import KeyMaterial
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.commands import gateway as gateway_command
from keycast.commands import server as server_command
from keycast.copies import backup_facts, state_copies
from keycast.services.home import open_home
from message_plane.identity import OwnIdentity
from private_store import archive, contents, files, last_backup, restoring
from private_store.migrations import scripts
from tests.unit.copies_world import LOCK, UNLOCK, back_up, keyed_again, octets_of, put_back
from tests.unit.home_world import BOARDS, SG, Home
from tests.unit.private_world import ERRORS, full_disk
from tests.unit.update_world import signed

NEEDED = {"identity.key", "signing.key", "sessions.db", "store/gateway.db", "server/cpns_server.sqlite3"}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def backup(tmp_path):
    return tmp_path / "home.backup"


@pytest.mark.req("SEC-02")
@pytest.mark.parametrize("when", ["running", "stopped"])
async def test_a_backup_holds_all_that_is_needed_and_nothing_that_opens_a_message(home, backup, when):
    async with home.running() as service:
        await home.live(service)
        if when == "running":
            await service.back_up(str(backup), LOCK.text(), True)
            seen = service.app.observer(ServerFacts).snapshot().backed_up_at
            assert seen == last_backup.made_at(home.state) > 0
    if when == "stopped":
        await back_up(home, backup)
    assert backup.stat().st_mode & 0o777 == 0o600
    members = octets_of(backup)
    assert members.keys() == NEEDED
    state = b"".join(path.read_bytes() for path in home.state.rglob("*") if path.is_file())
    assert len(home.secrets) >= 3 and all(secret in state for secret in home.secrets), "the test sees what is there"
    for secret in home.secrets:
        assert not any(secret in octets for octets in members.values())
    with pytest.raises(ERRORS, match="exists already"):
        await back_up(home, backup)


def with_host_and_port(image):
    """A file of sessions as it was while UDP was the only link: schema 4."""
    with closing(sqlite3.connect(":memory:")) as new, closing(sqlite3.connect(":memory:")) as old:
        new.deserialize(image)
        for script in scripts("message_plane.migrations")[:4]:
            old.executescript(script)
        rows = new.execute("SELECT entity_id, role, x, ccs, kid, pairing FROM credential").fetchall()
        old.executemany("INSERT INTO credential VALUES (?, ?, ?, ?, ?, ?)", rows)
        old.execute("PRAGMA user_version = 4")
        old.commit()
        return old.serialize()


async def test_a_backup_of_before_places_is_put_back(home, backup):
    await home.lived()
    with state_copies.gateway_state(home.state):
        images = state_copies.stopped_gateway(home.state)
    images["sessions.db"] = with_host_and_port(images["sessions.db"])
    state_copies.write_gateway_backup(home.config, backup, images, LOCK, identity=True)
    home.lose()
    await keyed_again(home, await put_back(home, backup))


@pytest.mark.req("SEC-02", "SEC-03", "SEC-33")
@pytest.mark.parametrize("left", ["nothing", "a killed home", "a new home", "the keys alone", "an old database"])
async def test_a_home_comes_back_beside_whatever_is_left(home, backup, tmp_path, left):
    async with home.running() as service:
        await home.live(service)
        await service.back_up(str(backup), LOCK.text(), True)
        identity = service.app.identity.x
        before = service.server.update_key(SG)
        await asyncio.sleep(0.05)
        if left == "a killed home":
            shutil.copytree(home.state, tmp_path / "killed", ignore=shutil.ignore_patterns("control.sock"))
    if left == "an old database":  # by hand, beside the log of a killed gateway
        shutil.copytree(home.state, tmp_path / "kept")
        (home.state / "store" / "gateway.db").write_bytes(octets_of(backup)["store/gateway.db"])
        (home.state / "store" / "gateway.db-wal").write_bytes(b"\x37\x7f\x06\x82" + os.urandom(8000))
        (home.state / "store" / "gateway.db-wal").chmod(0o600)
    elif left != "the keys alone":
        home.lose()
        if left == "a killed home":
            shutil.copytree(tmp_path / "killed", home.state)
            assert (home.state / "store" / "gateway.db-wal").stat().st_size
        elif left == "a new home":
            async with open_home(home.config):
                pass
            assert OwnIdentity.load(home.state / "identity.key").x != identity
    else:
        for name in ("store", "server", "sessions.db"):
            path = home.state / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    made = await put_back(home, backup)
    assert made.generation >= 1 + 256 and set(made.boards) == set(BOARDS)
    assert made.waiting == made.held == (SG,)
    assert not list(home.state.rglob("*-wal")) and not list(home.state.rglob("restore.*"))
    assert OwnIdentity.load(home.state / "identity.key").x == identity
    version = await keyed_again(home, made)
    assert version >> 16 == (before >> 16) + 1


async def test_a_backup_offers_no_update_and_a_restore_ends_those_that_are_offered(home, backup):
    file = base64.b64encode(signed(5)).decode()
    async with home.running() as service:
        await home.live(service)
        await service.app.updates.offer(file)
        await service.back_up(str(backup), LOCK.text(), True)
        assert list((home.state / "updates").iterdir())
    assert octets_of(backup).keys() == NEEDED
    made = await put_back(home, backup)
    assert not (home.state / "updates").exists()
    async with home.running() as service:
        assert service.app.updates.status()["offers"] == []
        await service.app.updates.offer(file)
    await keyed_again(home, made)


@pytest.mark.req("SEC-02", "SEC-03")
async def test_a_backup_that_is_put_back_twice_uses_nothing_twice(home, backup):
    await home.lived()
    await back_up(home, backup)
    first = await put_back(home, backup)
    one = await keyed_again(home, first)
    second = await put_back(home, backup)
    assert second.generation >= first.generation + 256
    assert await keyed_again(home, second) >> 16 > one >> 16
    home.lose()  # and with it all knowledge of the two: a person says how often
    third = await put_back(home, backup, epochs=3)
    assert await keyed_again(home, third) >> 16 == (one >> 16) + 2


@pytest.mark.req("SEC-02", "SEC-03")
async def test_restores_of_one_backup_on_new_disks_share_no_number(home, backup, monkeypatch):
    """Nothing is left that knows of the first one, and nobody said so: the time since it was made tells them apart."""
    await home.lived()
    await back_up(home, backup)
    made = backup_facts.time.time()
    found = []
    for age_s in (0, 600, 86_400, 90_000, 365 * 86_400, 366 * 86_400):
        home.lose()
        with monkeypatch.context() as patch:
            patch.setattr(backup_facts.time, "time", lambda age_s=age_s: made + age_s)
            done = await put_back(home, backup)
        async with open_home(home.config) as service:
            service.server.create_group("home/later", open_to=["home"])
            later = service.server.update_key("home/later")
            found.append((done.generation, service.server.confirm_members(SG), later >> 16))
    for numbers_of_one_kind in zip(*found, strict=True):
        assert list(numbers_of_one_kind) == sorted(set(numbers_of_one_kind))
    assert found[-1][0] < 0x1000 and found[-1][2] < 0x1000, "and few of those there are go"
    home.lose()
    assert (await put_back(home, backup, epochs=2)).generation >= found[0][0] + 256, "a person's word counts for both"


@pytest.mark.parametrize("made", ["", "yesterday", "1970-01-01T00:07:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_clock_without_date_tells_nothing_about_a_backup(made):
    assert backup_facts.since({"made": made}) == 0
    assert backup_facts.since({"made": "2025-06-01T00:00:00+00:00"}) > 0


@pytest.mark.req("SEC-33")
async def test_a_restore_that_is_cut_at_any_step_leaves_the_old_home_or_the_new_one(
    home, backup, tmp_path, monkeypatch
):
    """Cut before each renaming, overwriting and removing; then the home starts, and the restore is done again."""
    await home.lived()
    await back_up(home, backup)
    async with home.running() as service:  # what the old one has and the backup has not
        service.server.create_group("home/later", open_to=["home"])
    shutil.copytree(home.state, tmp_path / "old")
    real = {name: getattr(os, name) for name in ("rename", "unlink", "rmdir")}
    step, seen = 0, set()
    while True:
        home.lose()
        shutil.copytree(tmp_path / "old", home.state)
        left = step

        def cut(name):
            def call(*args, **how):
                nonlocal left
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
                return real[name](*args, **how)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, cut(name))
            patch.setattr(restoring, "abandon", lambda *_: None)  # a killed process cleans nothing up
            try:
                await put_back_here(home, backup)
                whole = True
            except KeyboardInterrupt:
                whole = False
        if whole:
            break
        async with open_home(home.config) as service:
            groups = {group.sg_id for group in service.server.list_groups()}
            assert groups in ({SG}, {SG, "home/later"})
            assert {credential.entity_id for credential in service.app.credentials.registered()} == set(BOARDS)
            seen.add(len(groups))
        step += 1 if step < 12 else 7
        assert not list(home.state.glob("restore.*"))
    assert seen == {1, 2} and step > 30
    await keyed_again(home, await put_back(home, backup))


async def put_back_here(home, backup):
    """In this thread, so that a cut is seen; the Server's own event loop is another's business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_copies, "_begin_epochs", lambda *_: ())
        with state_copies.gateway_state(home.state):
            return state_copies.put_back_gateway(home.config, backup, UNLOCK, older=True)


@pytest.mark.req("SEC-33")
async def test_nothing_is_opened_while_a_decided_restore_is_not_in_place(home, backup, monkeypatch):
    await home.lived()
    await back_up(home, backup)
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "finish", lambda *_: None)
        await put_back_here(home, backup)
    with pytest.raises(ERRORS, match="was cut short"):
        own_keys(home.config)
    async with open_home(home.config):
        own_keys(home.config)


@pytest.mark.req("SEC-23")
async def test_beside_a_running_gateway_it_is_refused(home, backup):
    async with home.running() as service:
        await home.live(service)
        await service.back_up(str(backup), LOCK.text(), True)
        with pytest.raises(ERRORS, match=rf"Process {os.getpid()} already uses the state folder .* Stop it first"):
            await put_back(home, backup)


def changed(path, **members):
    """The backup with other members: None takes one out."""
    opened = archive.read(path, UNLOCK)
    found = {name: octets for name, octets in (opened.members | members).items() if octets is not None}
    path.unlink()
    archive.write(path, opened.about, found, LOCK)


WRONG = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged: it was cut short or changed"),
    "one octet": (lambda path: _flip(path), "damaged|is no"),
    "empty": (lambda path: path.write_bytes(b""), "is no backup of keycast"),
    "something else": (lambda path: path.write_bytes(b"SQLite format 3\0" * 100), "is no backup of keycast"),
    "without its keys": (lambda path: changed(path, **{"identity.key": None}), "has no identity.key"),
    "without the Server": (lambda path: changed(path, **{"server/cpns_server.sqlite3": None}), "has no server/"),
    "with a file outside": (lambda path: changed(path, **{"../../evil": b"x"}), "newer keycast"),
    "with a damaged key": (lambda path: changed(path, **{"signing.key": b"{}"}), "not a usable key file"),
    "with a damaged database": (lambda path: changed(path, **{"store/gateway.db": b"x" * 8192}), "is damaged"),
    "with an empty database": (lambda path: changed(path, **{"sessions.db": b""}), "is empty"),
    "of another gateway": (lambda path: _about(path, id="gw.other"), "is a backup of the gateway gw.other"),
    "of another PN": (lambda path: _about(path, pn="cabin"), "of the PN cabin"),
    "of a Server": (lambda path: _about(path, of="server"), "is a backup of the server"),
    "with another manifest": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'"boards": "3"', b'"boards": "4"')),
        "is damaged: it was cut short or changed",
    ),
    "of a newer keycast": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"keycast backup 2", b"keycast backup 9", 1)),
        "newer keycast",
    ),
    "with a newer database": (lambda path: _newer(path), "was written by a newer keycast"),
    "not there": (lambda path: path.unlink(), "There is no file"),
}


def _flip(path):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


def _about(path, **fields):
    opened = archive.read(path, UNLOCK)
    path.unlink()
    archive.write(path, opened.about | fields, opened.members, LOCK)


def _newer(path):
    image = octets_of(path)["store/gateway.db"]
    changed(path, **{"store/gateway.db": image[:60] + (999).to_bytes(4, "big") + image[64:]})


async def test_what_cannot_be_put_back_leaves_the_home_as_it_is(home, backup, tmp_path):
    await home.lived()
    await back_up(home, backup)
    good = backup.read_bytes()
    before = {path: path.read_bytes() for path in home.state.rglob("*") if path.is_file()}
    for wrong, (make_wrong, words) in WRONG.items():
        backup.unlink(missing_ok=True)
        files.write_new(backup, good)
        make_wrong(backup)
        with pytest.raises(ERRORS, match=words):
            await put_back(home, backup)
        after = {path: path.read_bytes() for path in home.state.rglob("*") if path.is_file()}
        after[home.state / restoring.LOCK] = before[home.state / restoring.LOCK]
        assert after == before, wrong
    backup.unlink(missing_ok=True)
    files.write_new(backup, good)
    with full_disk(), pytest.raises(ERRORS, match="Check the space"):
        state_copies.put_back_gateway(home.config, backup, UNLOCK)
    assert not list(home.state.glob("restore.*"))
    await keyed_again(home, await put_back(home, backup))


async def test_a_backup_of_nothing_is_refused_and_makes_nothing(home, backup):
    with pytest.raises(ERRORS, match="no gateway's state"):
        await back_up(home, backup)
    assert not backup.exists() and os.listdir(home.state) == [restoring.LOCK]


@contextmanager
def val_client(folder):
    with (
        closing(GmkStore(folder / "seal_gmks.sqlite3")) as gmks,
        closing(BridgedGroups(folder / GROUPS_FILE)) as groups,
    ):
        yield gmks, groups


@pytest.mark.req("SEC-03", "SEC-33")
async def test_of_a_val_client_comes_back_what_it_must_not_forget_and_no_gmk(home, backup):
    await home.lived()
    seal, gmk = home.state / "seal", os.urandom(16)
    with contents.keeping(seal, ""), closing(KeyMaterial(seal / "seal_keys.sqlite3")):
        pass
    with val_client(seal) as (gmks, groups):
        with gmks.transaction():
            gmks.put(StoredGmk(b"\1" * 4, "gms", gmk, b"\2" * 4, os.urandom(16), 0, 0, 0, "", ("sip:crew",)))
            gmks.set_revoked("gms", b"\3" * 4)
        with groups.transaction():
            groups.put(BridgedGroup("home/crew", version=7, key_id=b"\1" * 4, revision=3))
            groups.add_member("home/crew", "lamp")
    await back_up(home, backup)
    assert not any(gmk in octets for octets in octets_of(backup).values())
    made = await put_back(home, backup)
    assert sorted(contents.made(seal)) == ["seal_gmks.sqlite3", "seal_groups.sqlite3"]
    assert not (seal / "seal_keys.sqlite3").exists(), "the KMS gives them again"
    with val_client(seal) as (gmks, groups):
        assert gmks.all() == [] and gmks.is_revoked("gms", b"\3" * 4)
        once = groups.get("home/crew")
        assert once.version >> 16 == 1 and once.revision >> 16 == 1 and groups.members("home/crew") == ["lamp"]
        with groups.transaction():
            groups.put(BridgedGroup("home/later", version=5, key_id=b"\1" * 4, revision=2))
    await keyed_again(home, made)
    await put_back(home, backup)
    with val_client(seal) as (gmks, groups):
        assert groups.get("home/crew").version > once.version and groups.get("home/later").version > 5
        assert groups.get("home/later").key_id == b"" and groups.members("home/later") == []


# A CPNS Server on its own


@pytest.mark.req("SEC-03", "SEC-33")
@pytest.mark.parametrize("when", ["running", "stopped"])
async def test_a_server_comes_back_with_its_groups_gateways_and_key(tmp_path, when):
    state, backup = tmp_path / "server", tmp_path / "server.backup"
    config = ServerConfig(id="srv", listen=["127.0.0.1"], port=0)
    gateway = OwnIdentity.create(tmp_path / "gw.key", "gw.home", "gateway").credential
    server = await CpnsServer.open(state, config)
    server.register_gateway("gw.home", "home", gateway.ccs, is_open=True)
    server.create_group(SG, open_to=["home"])
    credential, before = server.credential(), server.update_key(SG)
    key = server._store.newest_key(SG).key
    images = server.images() if when == "running" else None
    await server.close()
    server_id, images = ("srv", images) if images else state_copies.stopped_server(state)
    state_copies.write_server_backup(server_id, backup, images, LOCK, identity=True)
    assert not any(key in octets for octets in octets_of(backup).values())
    shutil.rmtree(state)

    def restore():
        with state_copies.server_state(state):
            return state_copies.put_back_server(state, backup, UNLOCK)

    assert (await asyncio.to_thread(restore)).held == (SG,)
    server = await CpnsServer.open(state, config)
    assert server.credential() == credential
    assert server._sessions._sessions.credential("gw.home") == gateway
    assert server.confirm_members(SG) >> 16 == (before >> 16) + 1
    await server.close()
    with pytest.raises(ERRORS, match="is a backup of the server srv, and not of gateway"):
        state_copies.put_back_gateway(Home(tmp_path).config, backup, UNLOCK)


def test_the_commands_for_backups_refuse_in_words_and_make_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path)
    for command in (
        lambda: gateway_command.backup(Path("b"), home.path),
        lambda: server_command.backup(Path("b"), Path("none")),
        lambda: gateway_command.restore(Path("b"), 1, home.path),
        lambda: server_command.restore(Path("b"), 1, home.path, Path("none")),
    ):
        with pytest.raises(typer.Exit):
            command()
        assert re.search("does not exist|There is no file b", capsys.readouterr().err)
    assert not (tmp_path / "b").exists()


async def test_the_next_step_after_a_restore_is_for_the_same_server(tmp_path, capsys):
    state = tmp_path / "a server"
    server = await CpnsServer.open(state, ServerConfig(id="srv", listen=["127.0.0.1"], port=0))
    server.create_group(SG)
    await server.close()
    files.write_new(tmp_path / "secret", b"correct horse battery\n")
    known = {"passphrase_file": tmp_path / "secret"}
    await asyncio.to_thread(server_command.backup, tmp_path / "b", state, **known)
    await asyncio.to_thread(server_command.restore, tmp_path / "b", 1, tmp_path / "none.toml", state, **known)
    assert f"keycast server confirm-members {SG} --state '{state}'" in capsys.readouterr().out
