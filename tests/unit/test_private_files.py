"""Every file of the product that holds secrets or state, in every condition in which a start may find it.

One table of what is kept, one table of what can be wrong with it: each pair ends in one sentence that names the file,
of the room's own error, and changes nothing.
"""

import contextlib
import datetime
import errno
import fcntl
import os
import resource
import secrets
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from gateway_agent.app import own_keys
from gateway_agent.errors import GatewayError
from gateway_agent.seal.gmk_store import GmkStore
from gateway_agent.seal.key_material import KeyMaterial
from gateway_agent.seal.service_groups import ServiceGroups
from gateway_agent.store.store import Store
from gateway_agent.store.tree_masters import TreeMasters
from key_servers.cpns_server.database import Database
from key_servers.errors import ServerError
from key_servers.https import tls
from key_servers.kms import master_secrets
from key_servers.sql.sqlite import SqliteDatabase
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity, SigningKey
from message_plane.session_store import SessionStore
from private_store import files
from private_store.errors import PrivateStoreError
from private_store.sqlite_file import SqliteFile
from tests.unit.kms_world import master_secrets as kms_secrets
from tests.unit.test_gateway_app import config

ERRORS = (GatewayError, ServerError, PlaneError, PrivateStoreError)


def closed(store):
    """Close it; the servers' databases are closed by their loop."""
    (store._file if isinstance(store, SqliteDatabase) else store).close()


# What is kept: the file in `folder`, and what opens or makes it.
STORES = {
    "gateway.db": Store,
    "sessions.db": lambda folder: SessionStore(folder / "sessions.db"),
    "cpns_server.sqlite3": Database,
    "kms.sqlite3": lambda folder: SqliteDatabase(folder / "kms.sqlite3"),
    "seal_keys.sqlite3": lambda folder: KeyMaterial(folder / "seal_keys.sqlite3"),
    "seal_gmks.sqlite3": lambda folder: GmkStore(folder / "seal_gmks.sqlite3"),
    "seal_groups.sqlite3": lambda folder: ServiceGroups(folder / "seal_groups.sqlite3"),
}


def tls_pair(folder):
    now = datetime.datetime.now(datetime.UTC)
    tls.make_self_signed(folder / "tls_certificate.pem", folder / "tls_key.pem", ["localhost"], now)


# What makes each key file, and what reads it.
KEY_FILES = {
    "identity.key": (
        lambda folder: OwnIdentity.create(folder / "identity.key", "gw", "gateway"),
        lambda folder: OwnIdentity.load(folder / "identity.key"),
    ),
    "signing.key": (
        lambda folder: SigningKey.create(folder / "signing.key"),
        lambda folder: SigningKey.load(folder / "signing.key"),
    ),
    "1": (  # a tree master
        lambda folder: TreeMasters(folder).create(1, secrets.token_bytes(32)),
        lambda folder: TreeMasters(folder).load(1),
    ),
    "master_secrets.json": (
        lambda folder: master_secrets.create(folder / "master_secrets.json", kms_secrets()),
        lambda folder: master_secrets.load(folder / "master_secrets.json"),
    ),
    "tls_key.pem": (
        tls_pair,
        lambda folder: tls.server_context(folder / "tls_certificate.pem", folder / "tls_key.pem"),
    ),
    "alice.token": (
        lambda folder: files.write_new(folder / "alice.token", b"token"),
        lambda folder: files.read(folder / "alice.token"),
    ),
}


class _Os:
    """The module `os` as `private_store.files` sees it, but for one thing."""

    def __init__(self, **other):
        self._other = other

    def __getattr__(self, name):
        return self._other.get(name, getattr(os, name))


def of_another_user(path, patch):
    patch.setattr(files, "os", _Os(geteuid=lambda: os.geteuid() + 1))


def a_link(path, patch):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def in_a_linked_folder(path, patch):
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to(path.parent.with_name("real"))


def a_second_name(path, patch):
    os.link(path, path.with_name("second"))


def a_pipe(path, patch):
    path.unlink()
    os.mkfifo(path, 0o600)


def a_folder(path, patch):
    path.unlink()
    path.mkdir(mode=0o700)


def a_device(path, patch):
    path.unlink()
    path.symlink_to("/dev/zero")


# What can be wrong -> (how it becomes so, what the sentence says).
WRONG = {
    "readable by the group": (lambda path, patch: path.chmod(0o640), "can be read by others. Run: chmod 600"),
    "writable by everybody": (lambda path, patch: path.chmod(0o602), "can be read by others. Run: chmod 600"),
    "of another user": (of_another_user, "belongs to another user. Run: chown"),
    "a link": (a_link, "is a link"),
    "a link to a device": (a_device, "is a link"),
    "with a second name": (a_second_name, "has a second name"),
    "a pipe": (a_pipe, "is no ordinary file"),
    "a folder": (a_folder, "is no ordinary file"),
    "in a folder of everybody": (lambda path, patch: path.parent.chmod(0o777), "Others can write to the folder"),
}
# What only the state folders of a process refuse: a file that a person named may lie where he likes.
WRONG_STATE = {
    "in a folder of a group": (lambda path, patch: path.parent.chmod(0o770), "Others can write to the folder"),
    "in a folder for everybody's own files": (lambda path, patch: path.parent.chmod(0o1777), "Others can write"),
    "in a linked folder": (in_a_linked_folder, "is a link"),
    "empty": (lambda path, patch: os.truncate(path, 0), "is empty"),
    "no database": (lambda path, patch: path.write_bytes(b"no database at all" * 1000), "is damaged"),
    "without its first page": (lambda path, patch: _overwrite(path, 0), "is damaged"),
    "with a log that is a link": (lambda path, patch: _beside(path, "-wal").symlink_to("/etc/hostname"), "is a link"),
    "with a log of others": (lambda path, patch: _beside(path, "-wal").touch(mode=0o644), "can be read by others"),
}


def _overwrite(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(4096))


def _beside(path, suffix):
    return path.with_name(path.name + suffix)


def everything(folder):
    """What lies in `folder`, with its octets."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    yield made
    made.chmod(0o700)


@pytest.mark.parametrize("wrong", [*WRONG, *WRONG_STATE])
@pytest.mark.parametrize("name", STORES)
async def test_a_store_in_a_wrong_condition_is_refused_and_left_as_it_is(name, wrong, folder, monkeypatch):
    closed(STORES[name](folder))
    make_wrong, words = (WRONG | WRONG_STATE)[wrong]
    with monkeypatch.context() as patch:
        make_wrong(folder / name, patch)
        before = everything(folder)
        with pytest.raises(ERRORS) as refused:
            closed(STORES[name](folder))
    assert words in str(refused.value)
    assert str(folder) in str(refused.value)
    after = everything(folder)
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", KEY_FILES)
def test_a_key_file_in_a_wrong_condition_is_refused(name, wrong, folder, monkeypatch):
    make, read = KEY_FILES[name]
    make(folder)
    with monkeypatch.context() as patch:
        WRONG[wrong][0](folder / name, patch)
        with pytest.raises(ERRORS) as refused:
            read(folder)
    assert WRONG[wrong][1] in str(refused.value)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("name", KEY_FILES)
def test_a_key_file_is_private_and_is_made_once(name, folder):
    make, read = KEY_FILES[name]
    make(folder)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    before = (folder / name).read_bytes()
    with pytest.raises(ERRORS, match="exists already"):
        make(folder)
    assert (folder / name).read_bytes() == before
    read(folder)


@pytest.mark.parametrize("name", STORES)
async def test_a_store_is_private_from_its_first_instant(name, tmp_path, monkeypatch):
    """Also while it is made, and what SQLite puts beside it."""
    modes = set()
    made = os.rename

    def rename(source, target):
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in Path(source).parent.iterdir() if path.is_file())
        made(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        old = os.umask(0)
        try:
            store = STORES[name](tmp_path / "new" / "state")
        finally:
            os.umask(old)
    state = tmp_path / "new" / "state"
    modes.update(stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_file())
    assert modes == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in (state, state.parent)} == {0o700}
    assert not [path for path in state.iterdir() if "unfinished" in path.name]
    closed(store)


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", STORES)
async def test_a_disk_that_is_full_when_a_store_is_made_leaves_nothing_half_made(name, folder):
    with full_disk(), pytest.raises(ERRORS, match="Check the space"):
        closed(STORES[name](folder))
    assert not [path for path in folder.iterdir() if path.name.startswith((name, f".{name}"))]
    closed(STORES[name](folder))


@pytest.mark.parametrize("name", KEY_FILES)
def test_a_disk_that_is_full_when_a_key_is_made_leaves_nothing_half_made(name, folder):
    make, read = KEY_FILES[name]
    with full_disk(), pytest.raises(ERRORS, match="Check the space"):
        make(folder)
    assert list(folder.iterdir()) == []
    make(folder)
    read(folder)


def killed_before(step, monkeypatch):
    """The process ends at its first call of `os.<step>`."""

    def end(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, end)


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("step", ["fsync", "rename"])
@pytest.mark.parametrize("name", KEY_FILES)
def test_a_key_whose_making_was_cut_is_made_anew(name, step, folder, monkeypatch):
    make, read = KEY_FILES[name]
    with monkeypatch.context() as patch:
        killed_before(step, patch)
        with pytest.raises(KeyboardInterrupt):
            make(folder)
    assert not os.path.lexists(folder / name)
    files.write_new(folder / "x", b"")
    (folder / "x").rename(folder / f".{name}.unfinished")  # what a kill leaves, where an exception cleans up
    make(folder)
    read(folder)
    assert not os.path.lexists(folder / f".{name}.unfinished")


@pytest.mark.req("SEC-33", "SEC-37")
@pytest.mark.parametrize("name", STORES)
async def test_a_store_whose_making_was_cut_is_made_anew(name, folder, monkeypatch):
    with monkeypatch.context() as patch:
        killed_before("rename", patch)
        with pytest.raises(KeyboardInterrupt):
            STORES[name](folder)
    assert not os.path.lexists(folder / name)
    (folder / f".{name}.unfinished").write_bytes(b"half")
    (folder / f".{name}.unfinished-wal").write_bytes(b"half")
    closed(STORES[name](folder))
    assert not [path for path in folder.iterdir() if "unfinished" in path.name]


@pytest.mark.req("SEC-37")
@pytest.mark.parametrize("name", STORES)
async def test_a_store_that_is_missing_beside_its_log_is_not_made_anew(name, folder):
    closed(STORES[name](folder))
    _beside(folder / name, "-wal").touch(mode=0o600)
    _beside(folder / name, "-wal").write_bytes(b"log")
    (folder / name).unlink()
    with pytest.raises(ERRORS, match="is missing, and its log"):
        closed(STORES[name](folder))
    assert not os.path.lexists(folder / name)


@pytest.mark.parametrize("name", STORES)
async def test_a_store_whose_medium_cannot_be_written_is_refused(name, folder, monkeypatch):
    closed(STORES[name](folder))
    real = os.open

    def read_only(path, flags, *mode, **more):
        if flags & os.O_ACCMODE != os.O_RDONLY and Path(path).name == name:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *mode, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(ERRORS, match="Read-only file system"):
            closed(STORES[name](folder))


@pytest.mark.parametrize("name", [name for name in STORES if name != "kms.sqlite3"])
def test_a_store_of_a_newer_keycast_is_refused(name, folder):
    closed(STORES[name](folder))
    with contextlib.closing(sqlite3.connect(folder / name)) as file:
        file.execute("PRAGMA user_version = 99")
    before = (folder / name).read_bytes()
    with pytest.raises(ERRORS, match="newer keycast"):
        closed(STORES[name](folder))
    assert (folder / name).read_bytes() == before


@pytest.mark.req("SEC-23")
@pytest.mark.parametrize("name", ["gateway.db", "cpns_server.sqlite3"])
def test_a_folder_of_one_process_is_told_with_its_owner(name, folder):
    store = STORES[name](folder)
    with pytest.raises(ERRORS, match=f"Process {os.getpid()} already uses"):
        STORES[name](folder)
    closed(store)
    closed(STORES[name](folder))


@pytest.mark.parametrize("lock", ["store.lock", "cpns_server.lock"])
def test_a_lock_that_is_no_file_of_ours_is_refused(lock, folder):
    name = "gateway.db" if lock == "store.lock" else "cpns_server.sqlite3"
    (folder / lock).symlink_to(folder / "elsewhere")
    with pytest.raises(ERRORS, match=str(folder)):
        STORES[name](folder)
    assert not (folder / "elsewhere").exists()
    (folder / lock).unlink()
    os.mkfifo(folder / lock, 0o600)
    with pytest.raises(ERRORS, match="no ordinary file"):
        STORES[name](folder)


@pytest.mark.parametrize("name", STORES)
async def test_what_a_killed_process_left_in_the_log_is_there_at_the_next_start(name, folder, tmp_path):
    """And the log, which may hold what was deleted, is cut at once (SEC-29)."""
    store = STORES[name](folder)
    connection = _file(store).connection
    connection.execute("CREATE TABLE extra (octets BLOB)")
    connection.execute("INSERT INTO extra VALUES (?)", (b"kept" * 20,))
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    closed(store)
    assert _beside(killed / name, "-wal").stat().st_size
    store = STORES[name](killed)
    assert _file(store).rows("SELECT octets FROM extra") == [(b"kept" * 20,)] or name == "gateway.db"
    assert _file(store).connection.execute("SELECT count(*) FROM extra").fetchone()[0] == 1
    assert _beside(killed / name, "-wal").stat().st_size == 0
    closed(store)


def _file(store) -> SqliteFile:
    inner = store.database if isinstance(store, Store) else store
    found = inner._file
    assert isinstance(found, SqliteFile)
    return found


# Transactions


@pytest.fixture
def rows(tmp_path):
    table = "CREATE TABLE row (octets BLOB);\n"
    file = SqliteFile(tmp_path / "rows.db", [table], holds="rows", remedy="")
    yield file
    file.close()


class Denied:
    """A connection that does not cut its log as long as `on`."""

    def __init__(self, file):
        self.on = True
        file.connection.set_authorizer(self._judge)

    def _judge(self, action, argument, *_):
        denied = self.on and action == sqlite3.SQLITE_PRAGMA and argument == "wal_checkpoint"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def _put(file, octets):
    with file.transaction():
        file.run("INSERT INTO row VALUES (?)", (octets,))


def _in_log(file, octets):
    return octets in _beside(file.path, "-wal").read_bytes()


@pytest.mark.req("SEC-29")
def test_a_commit_whose_log_could_not_be_cut_counts_and_is_not_told_as_failed(rows, caplog):
    secret = secrets.token_bytes(200)
    _put(rows, secret)
    denied = Denied(rows)
    with rows.transaction():
        rows.run("DELETE FROM row")
        rows.erase_after_commit()
    assert rows.rows("SELECT count(*) FROM row") == [(0,)]
    assert _in_log(rows, secret) and rows.erasures == 0
    for number in range(3):
        _put(rows, bytes([number]))
    assert len(caplog.records) == 1 and "next chance" in caplog.text
    denied.on = False
    _put(rows, b"next")
    assert not _in_log(rows, secret) and secret not in rows.path.read_bytes() and rows.erasures == 1
    assert len(caplog.records) == 2 and "has gone" in caplog.text
    _put(rows, b"once more")
    assert rows.erasures == 1


@pytest.mark.req("SEC-29")
def test_what_is_still_to_be_erased_is_at_the_end_and_at_the_next_start(tmp_path):
    secret = secrets.token_bytes(200)
    table = "CREATE TABLE row (octets BLOB);\n"
    for end in ("close", "kill"):
        file = SqliteFile(tmp_path / end / "rows.db", [table], holds="rows", remedy="")
        _put(file, secret)
        denied = Denied(file)
        with file.transaction():
            file.run("DELETE FROM row")
            file.erase_after_commit()
        assert _in_log(file, secret)
        path = file.path
        if end == "kill":
            shutil.copytree(path.parent, tmp_path / "killed")
            path = tmp_path / "killed" / "rows.db"
            again = SqliteFile(path, [table], holds="rows", remedy="")
        denied.on = False
        other = sqlite3.connect(file.path)  # while another process has it open, closing alone cuts nothing
        other.execute("SELECT count(*) FROM row").fetchall()
        file.close()
        assert not any(secret in each.read_bytes() for each in path.parent.iterdir())
        other.close()
        if end == "kill":
            again.close()


@pytest.mark.req("SEC-29")
def test_a_deletion_that_was_undone_owes_nothing(rows):
    _put(rows, b"stays")
    with contextlib.suppress(ZeroDivisionError), rows.transaction():
        rows.run("DELETE FROM row")
        rows.erase_after_commit()
        raise ZeroDivisionError
    assert rows.rows("SELECT octets FROM row") == [(b"stays",)]
    _put(rows, b"more")
    assert rows.erasures == 0


@pytest.mark.req("SEC-29")
def test_a_reader_in_the_way_delays_the_erasing_and_nobody_waits_for_it_twice(tmp_path):
    secret = secrets.token_bytes(200)
    table = "CREATE TABLE row (octets BLOB);\n"
    file = SqliteFile(tmp_path / "rows.db", [table], holds="rows", remedy="", busy_timeout_s=0.05)
    _put(file, secret)
    reader = file.connect()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM row").fetchall()
    with file.transaction():
        file.run("DELETE FROM row")
        file.erase_after_commit()
    waits = []
    file.connection.set_trace_callback(waits.append)
    _put(file, b"goes on")
    assert "PRAGMA busy_timeout = 0" in waits and _in_log(file, secret)
    reader.close()
    _put(file, b"and now")
    assert not _in_log(file, secret) and file.erasures == 1
    file.close()


@pytest.mark.parametrize("name", STORES)
async def test_a_full_disk_costs_a_transaction_and_not_the_store(name, folder):
    store = STORES[name](folder)
    file = _file(store)
    file.connection.execute("CREATE TABLE extra (octets BLOB)")
    with full_disk(), pytest.raises(ERRORS, match="Check the space"), file.transaction():
        file.run("INSERT INTO extra VALUES (?)", (bytes(100_000),))
    assert file.connection.execute("SELECT count(*) FROM extra").fetchone()[0] == 0
    with file.transaction():
        file.run("INSERT INTO extra VALUES (?)", (b"now",))
    assert file.connection.execute("SELECT count(*) FROM extra").fetchone()[0] == 1
    closed(store)


# Files that are exchanged


@pytest.mark.req("SEC-29")
def test_what_is_replaced_moved_over_or_erased_is_overwritten_where_it_lay(tmp_path):
    """Seen through a second name, which keeps the octets of a removed file."""

    def kept(name):
        os.link(tmp_path / name, tmp_path / f"{name}.kept")
        return tmp_path / f"{name}.kept"

    files.write_new(tmp_path / "a", b"old key")
    files.write_new(tmp_path / "b", b"next key")
    old = kept("a")
    files.move(tmp_path / "b", tmp_path / "a")
    assert old.read_bytes() == bytes(7) and (tmp_path / "a").read_bytes() == b"next key"
    old.unlink()
    old = kept("a")
    files.replace(tmp_path / "a", b"third")
    assert old.read_bytes() == bytes(8) and files.read(tmp_path / "a") == b"third"
    old.unlink()
    old = kept("a")
    files.erase(tmp_path / "a")
    assert old.read_bytes() == bytes(5) and not (tmp_path / "a").exists()
    files.erase(tmp_path / "a")


def test_replacing_on_a_full_disk_leaves_the_old_file(tmp_path):
    files.write_new(tmp_path / "a", b"old")
    with full_disk(), pytest.raises(PrivateStoreError, match="Check the space"):
        files.replace(tmp_path / "a", b"new")
    assert files.read(tmp_path / "a") == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_file_larger_than_expected_is_not_read_whole(tmp_path):
    files.write_new(tmp_path / "a", bytes(100))
    with pytest.raises(PrivateStoreError, match="more than 99 octets"):
        files.read(tmp_path / "a", most=99)


def test_two_processes_that_make_one_file_take_turns(tmp_path):
    """The second finds the first one's file, whole."""
    with files.locked(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_a_file_may_be_written_where_everybody_puts_theirs(tmp_path):
    """As a backup in /tmp: what is in it is private all the same."""
    tmp_path.chmod(0o1777)
    files.write_new(tmp_path / "home.backup", b"secret")
    assert files.read(tmp_path / "home.backup") == b"secret"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_the_keys_of_a_gateway_are_not_made_where_others_can_write(tmp_path, mode):
    made = config(tmp_path)
    made.gateway.state_dir.mkdir()
    made.gateway.state_dir.chmod(mode)
    with pytest.raises(GatewayError, match="Others can write to the folder"):
        own_keys(made)
    assert list(made.gateway.state_dir.iterdir()) == []
    made.gateway.state_dir.chmod(0o755)  # as systemd makes one: others see names, and no more
    own_keys(made)
