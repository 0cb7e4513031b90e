"""The store: private, used by one process, whole after any crash, and without old keys (SEC-29)."""

import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest

from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.store.errors import StoreDamaged, StoreFailed, StoreInUse
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.tree_masters import fingerprint
from private_store import contents


@pytest.fixture
def store(tmp_path):
    store = GatewayStore(tmp_path / "gw")
    with store.transaction():
        store.pn.create("pn.home", "gw", 7)
        store.inventory.ensure_group("light")
    yield store
    store.close()


def test_everything_is_private(store, tmp_path):
    store.tree_masters.create(1, bytes(32))
    with store.transaction():
        store.pn.register("lamp", 1)
    for path in (tmp_path / "gw").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.req("SEC-23")
def test_a_second_process_gets_one_clear_sentence(store, tmp_path):
    with pytest.raises(StoreInUse, match=f"Process {os.getpid()} already uses the store"):
        GatewayStore(tmp_path / "gw")
    script = (
        "import sys; from pathlib import Path; from gateway_agent.store.store import GatewayStore; "
        "GatewayStore(Path(sys.argv[1]))"
    )
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path / "gw")], capture_output=True, text=True)
    assert child.returncode and "StoreInUse" in child.stderr.splitlines()[-1]


def test_the_store_is_free_again_after_close(tmp_path):
    GatewayStore(tmp_path / "gw").close()
    GatewayStore(tmp_path / "gw").close()


@pytest.mark.req("SEC-29")
def test_only_the_two_newest_keys_exist_anywhere(store, tmp_path):
    keys = [os.urandom(16) for _ in range(4)]
    for version, key in enumerate(keys, 1):
        with store.transaction():
            store.group_keys.add("light", GroupKey(version, key, 0, 0))
    assert [store.group_keys.get("light", v) is not None for v in (1, 2, 3, 4)] == [False, False, True, True]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "gw").iterdir() if path.is_file())
    assert [key in everything for key in keys] == [False, False, True, True]
    assert store.database.erasures == 2


@pytest.mark.req("SEC-29")
def test_a_deleted_groups_keys_are_nowhere(store, tmp_path):
    keys = {sg_id: os.urandom(16) for sg_id in ("light", "door")}
    with store.transaction():
        store.inventory.ensure_group("door")
        for sg_id, key in keys.items():
            store.group_keys.add(sg_id, GroupKey(1, key, 0, 0))

    def on_the_medium():
        everything = b"".join(path.read_bytes() for path in (tmp_path / "gw").iterdir() if path.is_file())
        return {sg_id for sg_id, key in keys.items() if key in everything}

    with store.transaction():
        store.group_keys.delete_all("light")
    assert on_the_medium() == {"door"} and store.group_keys.get("door", 1) is not None
    with store.transaction():
        store.group_keys.delete_all()
    assert on_the_medium() == set()


def test_keys_and_tree_masters_do_not_show_in_a_repr(store):
    assert "secret" not in repr(GroupKey(1, b"secret", 0, 0))
    assert "secret" not in repr(store.tree_masters)


def test_a_transaction_is_whole_or_nothing(store):
    with pytest.raises(KeyError), store.transaction():
        store.pn.register("lamp", 1)
        with store.transaction():
            store.pn.register("door", 1)
        raise KeyError
    assert store.pn.pnes() == []


def test_nested_transactions_are_one_commit(store):
    before = store.database.commits
    with store.transaction(), store.transaction():
        store.pn.register("lamp", 1)
    with store.transaction():
        pass
    assert store.database.commits == before + 1


@contextmanager
def full_disk():
    """No file of this process can grow: what SQLite sees of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_a_transaction_and_not_the_store(store):
    with full_disk(), pytest.raises(StoreFailed), store.transaction():
        store.pn.register("lamp", 1)
    assert store.pn.pnes() == []
    with store.transaction():
        store.pn.register("door", 1)
    assert store.pn.pnes() == ["door"]


def test_a_commit_that_is_refused_leaves_no_transaction_open(store):
    with pytest.raises(StoreFailed, match="FOREIGN KEY"), store.transaction():
        store.database.execute("PRAGMA defer_foreign_keys = ON")
        store.database.execute("INSERT INTO member (sg_id, pne_id, floor, revision) VALUES ('light', 'nobody', 0, 0)")
    with store.transaction():
        store.pn.register("door", 1)
    assert store.pn.pnes() == ["door"]


@pytest.mark.req("SEC-29")
def test_a_key_that_a_full_disk_kept_in_the_log_goes_with_the_next_transaction(store, tmp_path):
    deny = {"on": True}

    def judge(action, argument, *_):
        denied = deny["on"] and action == sqlite3.SQLITE_PRAGMA and argument == "wal_checkpoint"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    store.database._file.connection.set_authorizer(judge)
    before = store.database.erasures
    with store.transaction():
        store.pn.register("lamp", 1)
        store.database.forget_log_after_commit()
    assert store.pn.pnes() == ["lamp"] and store.database.erasures == before
    deny["on"] = False
    with store.transaction():
        store.pn.register("door", 1)
    assert store.database.erasures == before + 1
    assert (tmp_path / "gw" / "gateway.db-wal").stat().st_size == 0


def test_a_disk_that_is_full_at_the_start_is_no_damage(tmp_path):
    with full_disk(), pytest.raises(StoreDamaged, match="Check the space"):
        GatewayStore(tmp_path / "gw")
    GatewayStore(tmp_path / "gw").close()


@pytest.mark.req("SEC-08")
def test_an_alias_is_never_used_again(store):
    seen = [store.inventory.group("light").alias]
    for _ in range(3):
        with store.transaction():
            store.inventory.mark_deleted("light")
        with store.transaction():
            seen.append(store.inventory.ensure_group("light").alias)
    assert seen == [1, 2, 3, 4]


def test_a_tree_master_left_over_from_a_power_cut_is_erased(tmp_path):
    store = GatewayStore(tmp_path / "gw")
    with store.transaction():
        store.slots.add_leftover(3)
    store.tree_masters.create(3, b"\1" * 32)
    store.close()
    store = GatewayStore(tmp_path / "gw")
    assert store.tree_masters.generations() == [] and store.slots.leftover() == set()
    store.close()


@pytest.mark.req("SEC-37")
def test_a_tree_master_is_not_erased_without_a_row_that_says_so(tmp_path):
    """The inventory is a new or an older one, whatever the list of the folder says."""
    store = GatewayStore(tmp_path / "gw")
    store.tree_masters.create(3, b"\1" * 32)
    store.close()
    for lost in ("nothing", "inventory"):
        if lost == "inventory":
            (tmp_path / "gw" / "gateway.db").unlink()
            (tmp_path / "gw" / contents.NAME).unlink()
        with pytest.raises(StoreDamaged, match=r"generation 3, which the inventory does not know.*restore"):
            GatewayStore(tmp_path / "gw")
        store = GatewayStore(tmp_path / "gw", restoring=True)
        assert store.tree_masters.load(3) == b"\1" * 32
        store.close()


@pytest.mark.req("SEC-37")
@pytest.mark.parametrize("cut", ["create", "erase"])
def test_a_generation_that_is_cut_at_its_beginning_or_end_leaves_no_file(store, tmp_path, monkeypatch, cut):
    def power_cut(*_):
        raise OSError("power cut")

    tree = Tree(store, os.urandom, 6)
    tree.begin(0)
    if cut == "erase":
        tree.begin(0)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        if cut == "create":
            made = store.tree_masters.create
            patch.setattr(store.tree_masters, "create", lambda *how: [made(*how), power_cut()])
            tree.begin(0)
        else:
            patch.setattr(store.tree_masters, "erase", power_cut)
            tree.end(1)
    store.close()
    again = GatewayStore(tmp_path / "gw")
    assert again.tree_masters.generations() == [1 if cut == "create" else 2]
    again.close()


def test_a_generation_has_one_tree_master(store):
    store.tree_masters.create(1, bytes(32))
    with pytest.raises(StoreDamaged, match="exists already"):
        store.tree_masters.create(1, b"\1" * 32)
    assert fingerprint(bytes(32)) != fingerprint(b"\1" * 32)


def test_a_damaged_file_is_one_clear_error(tmp_path):
    folder = tmp_path / "gw"
    GatewayStore(folder).close()
    (folder / "gateway.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        GatewayStore(folder)


def test_a_store_of_a_newer_program_is_refused(tmp_path):
    folder = tmp_path / "gw"
    store = GatewayStore(folder)
    store.database.rows("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreDamaged, match="newer keycast"):
        GatewayStore(folder)


@pytest.mark.req("SEC-29")
def test_what_was_committed_survives_kill_9(tmp_path):
    """The child prints each version after its commit; the last one printed must be there."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from gateway_agent.store.group_keys import GroupKey
        from gateway_agent.store.store import GatewayStore
        store = GatewayStore(Path(sys.argv[1]))
        with store.transaction():
            store.pn.create("pn", "gw", 1)
            store.inventory.ensure_group("light")
        for version in range(1, 10**6):
            with store.transaction():
                store.group_keys.add("light", GroupKey(version, version.to_bytes(16, "big"), 0, 0))
                store.inventory.set_version("light", version)
            os.write(1, b"%d\\n" % version)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "gw")], stdout=subprocess.PIPE)
    for line in child.stdout:
        if int(line) >= 50:
            break
    child.kill()
    printed = [int(line), *[int(word) for word in child.stdout.read().split(b"\n")[:-1]]]
    child.wait()
    child.stdout.close()
    store = GatewayStore(tmp_path / "gw")
    version = store.inventory.group("light").version
    assert version >= printed[-1]
    assert store.group_keys.newest("light").key == version.to_bytes(16, "big")
    store.close()


def test_what_is_read_is_always_what_is_stored(store):
    """A row is read once between two transactions, and never kept across one."""
    statements = []
    store.database._file.connection.set_trace_callback(statements.append)
    assert [store.pn.get().signing_epoch for _ in range(3)] == [1, 1, 1]
    assert len(statements) == 1
    with store.transaction():
        store.pn.set_signing_epoch(2)
        assert store.pn.get().signing_epoch == 2
        store.pn.set_signing_epoch(3)
        assert store.pn.get().signing_epoch == 3
    assert store.pn.get().signing_epoch == 3
    with pytest.raises(RuntimeError), store.transaction():
        store.pn.set_signing_epoch(4)
        assert store.pn.get().signing_epoch == 4
        raise RuntimeError
    assert store.pn.get().signing_epoch == 3
    assert store.pn.pne("nobody") is None
    with store.transaction():
        store.pn.register("nobody", 3)
    assert store.pn.pne("nobody") is not None
    for number in range(3000):
        store.pn.pne(f"guess {number}")
    assert len(store.database._known) <= 1024
