"""Every file of the product that holds secrets or state, in every condition in which a start may find it.

One table of what is kept, one table of what can be wrong with it: each pair ends in one sentence that names the file,
of the room's own error, and changes nothing.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from gateway_agent.errors import GatewayError
from gateway_agent.state_files import own_keys
from private_store import contents, files, restoring
from tests.unit.private_world import ERRORS, KEY_FILES, STORES, beside, closed, full_disk, sqlite_file
from tests.unit.test_gateway_app import config


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
    "with a log that is a link": (lambda path, patch: beside(path, "-wal").symlink_to("/etc/hostname"), "is a link"),
    "with a log of others": (lambda path, patch: beside(path, "-wal").touch(mode=0o644), "can be read by others"),
}


def _overwrite(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(4096))


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
    beside(folder / name, "-wal").touch(mode=0o600)
    beside(folder / name, "-wal").write_bytes(b"log")
    (folder / name).unlink()
    (folder / contents.NAME).unlink()  # of a folder without a list, too
    with pytest.raises(ERRORS, match="is missing, and its log"):
        closed(STORES[name](folder))
    assert not os.path.lexists(folder / name)


@pytest.mark.req("SEC-33")
def test_a_state_that_cannot_be_put_back_whole_says_why_and_the_old_one_stays(folder):
    owned = ("key", "peer", "peers/", "link")
    (folder / "link").symlink_to(folder / "notes")
    (folder / "peers").mkdir(mode=0o700)
    old = {"key": b"old", "peer": b"only old", "peers/one": b"only old", "notes": b"a person's own"}
    for name, octets in old.items():
        (folder / name).write_bytes(octets)

    def state():
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if name in old or path.name == "key"}

    with pytest.raises(LookupError, match="no such key"), restoring.putting_back(folder, {"key": b"new"}, owned):
        raise LookupError("no such key")
    assert state() == old
    with restoring.putting_back(folder, {"key": b"new"}, owned):
        assert (folder / "key").read_bytes() == b"old"
    assert state() == {"key": b"new", "notes": b"a person's own"} and not os.path.lexists(folder / "link")


@pytest.mark.req("SEC-37")
@pytest.mark.parametrize(
    ("name", "without"),
    [(name, "octets") for name in STORES]
    + [(name, "tables") for name in STORES if name != "kms.sqlite3"],  # whose tables are made above the file
)
async def test_a_store_that_was_emptied_is_not_made_anew(name, folder, without):
    closed(STORES[name](folder))
    for suffix in ("", "-wal", "-shm"):
        beside(folder / name, suffix).unlink(missing_ok=True)
    (folder / contents.NAME).unlink()  # of a folder without a list, too
    (folder / name).touch(mode=0o600)
    if without == "tables":
        with contextlib.closing(sqlite3.connect(folder / name)) as database:
            database.executescript("CREATE TABLE ours (x); DROP TABLE ours")
    size = (folder / name).stat().st_size
    with pytest.raises(ERRORS, match="is empty"):
        STORES[name](folder)
    assert (folder / name).stat().st_size == size


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
    connection = sqlite_file(store).connection
    connection.execute("CREATE TABLE extra (octets BLOB)")
    connection.execute("INSERT INTO extra VALUES (?)", (b"kept" * 20,))
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    closed(store)
    assert beside(killed / name, "-wal").stat().st_size
    store = STORES[name](killed)
    assert sqlite_file(store).rows("SELECT octets FROM extra") == [(b"kept" * 20,)] or name == "gateway.db"
    assert sqlite_file(store).connection.execute("SELECT count(*) FROM extra").fetchone()[0] == 1
    assert beside(killed / name, "-wal").stat().st_size == 0
    closed(store)


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


def test_a_command_with_the_name_of_a_file_can_be_typed_as_it_is_told(tmp_path):
    path = tmp_path / "a key"
    path.write_bytes(b"secret")
    path.chmod(0o644)
    with pytest.raises(files.StoreUnusable, match=f"Run: chmod 600 '{path}'"):
        files.read(path)
