"""The Server's store: private, for one process, and without readable deleted data (SEC-29)."""

import contextlib
import resource
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cpns import numbers as n
from cpns.in_words import version_text
from key_servers.cpns_server import tuning
from key_servers.cpns_server.group_version import first, following, restored
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import (
    GroupState,
    GroupTrust,
    JoinPolicy,
    MemberReport,
    MemberState,
    StoredEntityUserKey,
    StoredGateway,
    StoredGroup,
    StoredKey,
    StoredMember,
)
from key_servers.errors import StoreFailed, StoreInUse, StoreUnusable
from tests.unit.server_databases import ServerPlace, place, postgres_url
from tests.waiting import PATIENCE_S

__all__ = ["place", "postgres_url"]


def test_every_file_is_private_from_the_start(tmp_path: Path) -> None:
    store = ServerStore(SqliteServerDatabase(tmp_path / "server"))
    with store.transaction():
        store.bind_pne("lamp", "pn.home")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "server").iterdir()}
    assert len(modes) == 5  # database, -wal, -shm, lock, list of what was made
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700
    store.close()


def test_a_store_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    ServerStore(SqliteServerDatabase(tmp_path)).close()
    (tmp_path / "cpns_server.sqlite3").chmod(0o640)
    with pytest.raises(StoreUnusable, match="chmod 600"):
        ServerStore(SqliteServerDatabase(tmp_path))


def test_a_second_process_is_told_in_one_sentence(tmp_path: Path) -> None:
    store = ServerStore(SqliteServerDatabase(tmp_path))
    program = (
        "import sys, pathlib\n"
        "from key_servers.cpns_server.sqlite_database import SqliteServerDatabase\n"
        "from key_servers.errors import StoreInUse\n"
        "try:\n    SqliteServerDatabase(pathlib.Path(sys.argv[1]))\n"
        "except StoreInUse as error:\n    print(error)\n"
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    said = subprocess.run(run, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    assert said.count("\n") == 1 and "already uses the CPNS Server" in said
    with pytest.raises(StoreInUse):
        ServerStore(SqliteServerDatabase(tmp_path))
    store.close()
    ServerStore(SqliteServerDatabase(tmp_path)).close()


def test_a_damaged_store_is_named_with_the_next_step(tmp_path: Path) -> None:
    ServerStore(SqliteServerDatabase(tmp_path)).close()
    path = tmp_path / "cpns_server.sqlite3"
    octets = bytearray(path.read_bytes())
    octets[:100] = bytes(100)
    path.write_bytes(octets)
    with pytest.raises(StoreUnusable, match="restore"):
        ServerStore(SqliteServerDatabase(tmp_path))
    path.unlink()
    (tmp_path / "contents.json").unlink()
    ServerStore(SqliteServerDatabase(tmp_path)).close()  # the failed attempt left no lock behind


def test_a_disk_that_is_full_at_the_start_is_no_damage(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no file can grow
    try:
        with pytest.raises(StoreUnusable, match="Check the space"):
            ServerStore(SqliteServerDatabase(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ServerStore(SqliteServerDatabase(tmp_path)).close()


def test_a_newer_release_is_not_guessed_at(tmp_path: Path) -> None:
    ServerStore(SqliteServerDatabase(tmp_path)).close()
    database = sqlite3.connect(tmp_path / "cpns_server.sqlite3")
    database.execute("PRAGMA user_version = 999")
    database.close()
    with pytest.raises(StoreUnusable, match="newer keycast"):
        ServerStore(SqliteServerDatabase(tmp_path))


def test_the_settings_that_keep_promises_are_on(tmp_path: Path) -> None:
    store = ServerStore(SqliteServerDatabase(tmp_path))
    database = store._database
    settings = ("synchronous", "journal_mode", "secure_delete", "foreign_keys")
    assert [database.rows(f"PRAGMA {name}")[0][0] for name in settings] == [2, "wal", 1, 1]
    store.close()


def test_a_transaction_is_all_or_nothing_even_when_nested(place: ServerPlace) -> None:
    store = place.store()
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.bind_pne("lamp", "pn.home")
        with store.transaction():
            store.bind_pne("door", "pn.home")
        raise ZeroDivisionError
    assert store.pn_of("lamp") is None and store.pn_of("door") is None
    with store.transaction():
        store.bind_pne("lamp", "pn.home")
    assert store.pn_of("lamp") == "pn.home"
    store.close()


@pytest.mark.req("SEC-03")
def test_a_database_has_a_number_of_its_own_that_no_backup_takes_along(place: ServerPlace) -> None:
    drawn = iter([b"1" * 16, b"2" * 16])
    store = place.store()
    assert store.database_id(lambda _: next(drawn)) == store.database_id(lambda _: next(drawn)) == b"1" * 16
    image = store.image()
    store.close()
    again = place.store()
    assert again.database_id(lambda _: b"4" * 16) == b"1" * 16
    again.close()
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(image)
        assert copy.execute("SELECT database_id FROM server").fetchall() == [(None,)]


def test_what_the_medium_refuses_raises_and_leaves_nothing(tmp_path: Path) -> None:
    store = ServerStore(SqliteServerDatabase(tmp_path))
    ((pages,),) = store._database.rows("PRAGMA page_count")
    store._database.rows(f"PRAGMA max_page_count = {pages}")  # SQLite's word for a full disk
    with pytest.raises(StoreFailed, match="full"), store.transaction():
        for i in range(2000):
            store.bind_pne(f"pne{i:060}", "pn.home")
    assert store.count_pnes("pn.home") == 0
    store.close()


@pytest.mark.req("SEC-03")
def test_no_statement_can_take_a_version_or_revision_back(place: ServerPlace) -> None:
    store = place.store()
    with store.transaction():
        store.put_gateway(StoredGateway("gw.home", "pn.home", "cbor", False, True))
        store._write("INSERT INTO groups VALUES ('light', '', 'active', 'open', 2, 1, 0, 5, NULL, 0, 'gateway', NULL)")
        store.set_revision("light", "pn.home", 7)
    with pytest.raises(StoreFailed, match="go back"), store.transaction():
        store._write("UPDATE groups SET version = 4")
    with pytest.raises(StoreFailed, match="go back"), store.transaction():
        store.set_revision("light", "pn.home", 6)
    with pytest.raises(StoreFailed), store.transaction():
        store.add_key(StoredKey("light", 5, b"a" * 16, 0, 0))
        store.add_key(StoredKey("light", 5, b"b" * 16, 0, 0))  # one key for one version
    store.close()


@pytest.mark.req("SEC-26")
def test_no_statement_can_change_the_trust_of_a_name(place: ServerPlace) -> None:
    group = StoredGroup(
        "alarm", "", GroupState.ACTIVE, JoinPolicy.OPEN, n.PROTECTION_SEALED, True, 0, 5, None, 0, GroupTrust.END_TO_END
    )
    store = place.store()
    with store.transaction():
        store.put_group(group)
        store.put_group(replace(group, state=GroupState.DELETED))
    with pytest.raises(StoreFailed, match="trust"), store.transaction():
        store.put_group(replace(group, trust=GroupTrust.GATEWAY))
    assert store.group("alarm") == replace(group, state=GroupState.DELETED)
    store.close()


@pytest.mark.req("Q-08")
async def test_of_the_reports_about_a_member_the_newest_version_counts(place: ServerPlace) -> None:
    store = place.store()
    group = StoredGroup("light", "", GroupState.ACTIVE, JoinPolicy.OPEN, n.PROTECTION_SEALED, True, 0, 5, None, 0)
    with store.transaction():
        store.put_group(group)
        store.bind_pne("lamp", "pn.home")
        store.set_member("light", "lamp", MemberState.MEMBER, 7)
    began = store.member("light", "lamp")
    assert began == StoredMember("lamp", "pn.home", MemberState.MEMBER, 7, 0, "", "", 0, 0)
    for version, report, confirms, then in (
        (3, MemberReport("lamp", "confirmed", "ble", 2, 100), True, ("confirmed", 3, "ble", 2, 100)),
        (2, MemberReport("lamp", "unreachable", "", 9), True, ("confirmed", 3, "ble", 2, 100)),
        (4, MemberReport("lamp", "unreachable", "", 9), True, ("unreachable", 3, "ble", 9, 100)),
        (5, MemberReport("lamp", "confirmed", "wifi", 1, 99), False, ("confirmed", 3, "ble", 9, 100)),
        (4294967295, MemberReport("lamp", "confirmed", "x", 4294967295, 4294967295), True,
         ("confirmed", 4294967295, "x", 4294967295, 4294967295)),
    ):  # fmt: skip
        store.lots.add_report("light", version, report, confirms=confirms)
        await store.lots.written()
        found = store.member("light", "lamp")
        assert found is not None
        assert (found.report, found.confirmed, found.link, found.tries, found.confirmed_at) == then
    with store.transaction():
        store.set_member("light", "lamp", MemberState.MEMBER, 7)
    assert store.member("light", "lamp") == began
    await store.lots.close()
    store.close()


@pytest.mark.req("SEC-25")
@pytest.mark.req("SEC-29")
def test_an_entity_user_key_that_was_replaced_is_in_no_octet_of_the_files(tmp_path: Path) -> None:
    store = ServerStore(SqliteServerDatabase(tmp_path))
    keys = StoredEntityUserKey(b"first entity key", None, True)
    with store.transaction():
        store.put_entity_user_key("lamp", keys)
    assert store.entity_user_key("lamp") == keys and "first" not in repr(keys)
    with store.transaction():
        store.put_entity_user_key("lamp", StoredEntityUserKey(b"second entitykey", None, False))
        store.put_entity_user_key("door", keys)
        store.forget_entity_user_key("door")
    assert store.entity_user_key("door") is None
    octets = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert keys.current not in octets and b"second entitykey" in octets
    store.close()


def test_versions_run_on_from_counter_to_epoch_and_end() -> None:
    assert following(first(0)) == 1
    assert following(0x0000FFFF) == 0x00010000
    assert restored(0x00030007, 1) == 0x00040000
    assert version_text(0x00030007) == "3.7" and version_text(0) == "-"
    with pytest.raises(Exception, match="used up"):
        following(0xFFFFFFFF)
    with pytest.raises(Exception, match="used up"):
        restored(0xFFFF0000, 1)


def test_positions_that_come_in_pages_are_all_of_them_once(place: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store()
    with store.transaction():
        for sg_id, trust in (("alarm", GroupTrust.END_TO_END), ("light", GroupTrust.GATEWAY)):
            sealed = n.PROTECTION_SEALED
            store.put_group(
                StoredGroup(sg_id, "", GroupState.ACTIVE, JoinPolicy.OPEN, sealed, True, 0, 5, None, 0, trust)
            )
            for number in range(7):
                store.bind_pne(f"lamp{number}", f"pn.{number}")
                store.set_member(sg_id, f"lamp{number}", MemberState.MEMBER, 0)
                store.set_revision(sg_id, f"pn.{number}", number + 1)

    def everything() -> list[object]:
        return [store.positions(), store.positions("light"), store.pne_positions(), store.pne_positions("alarm")]

    whole = everything()
    assert [len(each) for each in whole if isinstance(each, dict)] == [14, 7, 7, 7]
    for rows in (1, 3, 7, 14):
        monkeypatch.setattr(tuning, "PAGE", rows)
        assert everything() == whole
    store.close()
