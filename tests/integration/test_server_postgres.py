"""The Server's database in PostgreSQL: who is refused, what is never shown, and several processes at once."""

import contextlib
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cpns.errors import CpnsError
from key_servers.cpns_server.database import Write
from key_servers.cpns_server.databases import open_database
from key_servers.cpns_server.postgres.connection import PatientConnection, connect
from key_servers.cpns_server.postgres.database import PostgresServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import StoreContended, StoreFailed, StoreUnusable
from tests.unit.cpns_server_parts import House
from tests.unit.server_databases import emptied, postgres_url

__all__ = ["postgres_url"]


@pytest.fixture
def url(postgres_url: str) -> str:
    emptied(postgres_url)
    return postgres_url


def test_a_schema_of_a_newer_release_is_not_guessed_at(url: str, tmp_path: Path) -> None:
    open_database(tmp_path, url).close()
    with psycopg.connect(url) as other:
        other.execute("UPDATE cpns_server.schemas SET version = 999 WHERE package LIKE '%server.migrations'")
    with pytest.raises(StoreUnusable, match="newer keycast"):
        open_database(tmp_path, url)


def test_no_error_shows_the_password(tmp_path: Path) -> None:
    urls = ["postgresql://keycast:hunter2@127.0.0.1:1/x", "postgresql://keycast:hunter2@127.0.0.1:hunter2/x"]
    for url in (*urls, "keycast:hunter2@127.0.0.1"):
        with pytest.raises(StoreUnusable) as told:
            open_database(tmp_path, url)
        assert "hunter2" not in str(told.value) and told.value.__cause__ is None


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("server does not support SSL, but SSL was required", "Switch TLS on there"),
        ('root certificate file "/nope" does not exist Either provide the file', "Name the CA of its certificate"),
        ("SSL error: certificate verify failed", "sslrootcert=FILE"),
        ('server certificate for "a" does not match host name "b"', "the host as the certificate does"),
        ("Connection refused Is the server running on that host and accepting TCP/IP connections?", "Check its URL"),
    ],
)
def test_a_connection_that_cannot_be_made_is_told_with_the_next_step(
    reason: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise psycopg.OperationalError(reason)

    monkeypatch.setattr(PatientConnection, "connect", refuse)
    with pytest.raises(StoreUnusable) as caught:
        connect("postgresql://keycast@/keycast?host=/nowhere")
    assert step in str(caught.value) and "?. " not in str(caught.value)


def test_no_error_shows_a_value_of_a_row(url: str) -> None:
    database = PostgresServerDatabase(url)
    with pytest.raises(StoreFailed) as told, database.transaction():
        for _ in range(2):
            database.write("INSERT INTO entity_user_key VALUES ('secret', ?, NULL, 0)", b"secret entitykey")
    assert "secret" not in str(told.value) and database.trouble == ""
    assert database.rows("SELECT count(*) FROM entity_user_key") == [(0,)]
    database.close()


def test_a_swallowed_error_commits_nothing(url: str) -> None:
    store = ServerStore(PostgresServerDatabase(url))
    with pytest.raises(StoreFailed, match="undone"), store.transaction():
        store.bind_pne("lamp", "pn.home")
        with pytest.raises(StoreFailed):
            store._write("INSERT INTO pnes VALUES ('lamp', 'pn.office')")
    assert store.pn_of("lamp") is None
    store.close()


def test_what_another_process_changed_meanwhile_is_decided_anew(url: str) -> None:
    one, other = (ServerStore(PostgresServerDatabase(url)) for _ in range(2))
    seen = []

    def admit() -> None:
        seen.append(one.count_pnes("pn.home"))
        if len(seen) == 1:
            with other.transaction():
                other.bind_pne("lamp", "pn.home" if other.count_pnes("pn.home") == 0 else "pn.full")
        one.bind_pne("door", "pn.home" if seen[-1] == 0 else "pn.full")

    one.attempt(admit)
    assert seen == [0, 1] and one.pnes() == {"door": "pn.full", "lamp": "pn.home"}
    with pytest.raises(StoreContended), one.transaction():  # without `attempt` it is told
        free = one.count_pnes("pn.home")
        with other.transaction():
            other.bind_pne(f"cat{other.count_pnes('pn.home')}", "pn.home")
        one.bind_pne(f"dog{free}", "pn.home")
    one.close()
    other.close()


def test_a_lot_does_not_bring_back_what_a_transaction_ended(url: str) -> None:
    database = PostgresServerDatabase(url)
    with database.transaction():
        database.write("INSERT INTO pnes VALUES ('lamp', 'old')")
    waits = {"lamp": "lot"}

    def statements() -> list[Write]:
        lot = [Write("UPDATE pnes SET pn_id = ? WHERE pne_id = ?", (pn_id, pne_id)) for pne_id, pn_id in waits.items()]
        if waits:
            waits.clear()
            with database.transaction():
                database.write("UPDATE pnes SET pn_id = 'rule'")
        return lot

    database.write_lot(statements)
    assert database.rows("SELECT pn_id FROM pnes") == [("rule",)]
    database.close()


@pytest.mark.req("CPNS-GKM-60")
def test_two_processes_that_race_for_a_group_lose_nothing_and_make_no_version_twice(url: str) -> None:
    """Each adds members and makes versions; the count of both is in the group at the end."""
    first = ServerStore(PostgresServerDatabase(url))
    with first.transaction():
        first._write("INSERT INTO groups VALUES ('light', '', 'active', 'open', 2, 1, 0, 0, NULL, 0, 'gateway')")
    versions: list[int] = []

    def work(name: str) -> None:
        with contextlib.closing(ServerStore(PostgresServerDatabase(url))) as store:
            for number in range(25):
                versions.append(store.attempt(partial(change, store, f"{name}{number}")))

    def change(store: ServerStore, pne_id: str) -> int:
        store.bind_pne(pne_id, "pn.home")
        ((version,),) = store._rows("SELECT version FROM groups")
        store._write("UPDATE groups SET version = ?", version + 1)
        return int(version + 1)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 51)) and first.count_pnes("pn.home") == 50
    first.close()


async def test_a_name_that_postgresql_cannot_hold_is_a_name_that_is_not_there(url: str, tmp_path: Path) -> None:
    house = await House.open(tmp_path, database_url=url)
    house.gateway("home")
    for refused in (house.server.create_group, house.server.delete_group, house.server.show_group):
        with pytest.raises(CpnsError):
            refused("li\0ght")
    with pytest.raises(CpnsError):
        house.server.admit_pne("la\0mp", "pn.home")
    assert house.server._store.trouble == ""
    await house.server.close()
