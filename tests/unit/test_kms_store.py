"""The store of a KMS in SQLite and in a real PostgreSQL: the same statements, the same behaviour."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from key_servers.errors import StoreFailed, StoreUnusable
from key_servers.https import tokens
from key_servers.kms.store import KmsStore, KmsUser, Role, UserExists, UserUnknown
from key_servers.sql import Database, migrate, open_database
from tests.unit.kms_world import ALICE, BOB, GMS, NOW
from tests.unit.postgres_server import postgres

pytestmark = pytest.mark.real_time


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    opened = await open_database(url, tmp_path / "kms.sqlite3")
    yield opened
    if url:
        async with opened.transaction() as sql:
            for table in ("kms_tokens", "kms_users", "kms_certificates", "kms_cache_number", "schemas", "scratch"):
                await sql.rows(f"DROP TABLE IF EXISTS {table}")
    await opened.close()


@pytest.fixture
async def store(database: Database) -> KmsStore:
    return await KmsStore.open(database)


def drawn(user_uri: str, valid_to: int = NOW) -> tokens.StoredToken:
    return tokens.draw(user_uri, valid_to, os.urandom)[1]


async def test_users_come_back_with_role_and_token(store: KmsStore) -> None:
    alice, gms = drawn(ALICE), drawn(GMS)
    await store.add_user(KmsUser(GMS, Role.GMS, NOW), gms)
    await store.add_user(KmsUser(ALICE, Role.USER, NOW + 1), alice)
    assert await store.users() == [KmsUser(ALICE, Role.USER, NOW + 1), KmsUser(GMS, Role.GMS, NOW)]
    assert await store.token(gms.token_id) == (gms, KmsUser(GMS, Role.GMS, NOW))
    assert await store.token(drawn(ALICE).token_id) is None
    assert await store.user(BOB) is None


async def test_a_user_is_added_once(store: KmsStore) -> None:
    first = drawn(ALICE)
    await store.add_user(KmsUser(ALICE, Role.USER, NOW), first)
    with pytest.raises(UserExists):
        await store.add_user(KmsUser(ALICE, Role.GMS, NOW + 5), drawn(ALICE))
    assert await store.token(first.token_id) == (first, KmsUser(ALICE, Role.USER, NOW))


async def test_a_new_token_ends_the_old_one(store: KmsStore) -> None:
    first, second = drawn(ALICE), drawn(ALICE, NOW + 9)
    await store.add_user(KmsUser(ALICE, Role.USER, NOW), first)
    await store.replace_token(second)
    assert await store.token(first.token_id) is None
    assert await store.token(second.token_id) == (second, KmsUser(ALICE, Role.USER, NOW))
    with pytest.raises(UserUnknown):
        await store.replace_token(drawn(BOB))


async def test_a_revocation_stays_with_its_first_time(store: KmsStore) -> None:
    token = drawn(ALICE)
    await store.add_user(KmsUser(ALICE, Role.USER, NOW), token)
    await store.revoke_user(ALICE, NOW + 1)
    await store.revoke_user(ALICE, NOW + 2)
    assert await store.user(ALICE) == KmsUser(ALICE, Role.USER, NOW, NOW + 1)
    assert await store.token(token.token_id) == (token, KmsUser(ALICE, Role.USER, NOW, NOW + 1))
    with pytest.raises(UserUnknown):
        await store.revoke_user(BOB, NOW)


async def test_certificates_have_growing_cache_numbers(store: KmsStore) -> None:
    assert await store.certificates(0) == ([], 0)
    assert await store.put_certificate("kms.a", "<a/>") == 1
    assert await store.put_certificate("kms.b", "<b/>") == 2
    assert await store.put_certificate("kms.a", "<a2/>") == 3
    assert await store.certificates(0) == (["<b/>", "<a2/>"], 3)
    assert await store.certificates(2) == (["<a2/>"], 3)
    assert await store.certificates(3) == ([], 3)


async def test_text_is_a_value_and_never_a_statement(store: KmsStore) -> None:
    uri = "sip:x'); DROP TABLE kms_users; --@example.org"
    await store.add_user(KmsUser(uri, Role.USER, NOW), drawn(uri))
    assert [user.user_uri for user in await store.users()] == [uri]


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    async with database.transaction() as sql:
        await sql.rows("CREATE TABLE scratch (n BIGINT PRIMARY KEY)")
    for wrong in ("INSERT INTO scratch VALUES (1)", "INSERT INTO nowhere VALUES (1)"):
        with pytest.raises(StoreFailed):
            async with database.transaction() as sql:
                await sql.rows("INSERT INTO scratch VALUES (1)")
                await sql.rows(wrong)
    with pytest.raises(KeyError):
        async with database.transaction() as sql:
            await sql.rows("INSERT INTO scratch VALUES (2)")
            raise KeyError
    async with database.transaction() as sql:
        assert list(await sql.rows("SELECT n FROM scratch")) == []


async def test_transactions_at_the_same_time_do_not_mix(store: KmsStore) -> None:
    await asyncio.gather(*(store.put_certificate(f"kms.{n}", "<x/>") for n in range(20)))
    documents, newest = await store.certificates(0)
    assert len(documents) == newest == 20


async def test_a_schema_is_made_once_and_one_of_a_newer_release_refused(database: Database) -> None:
    store = await KmsStore.open(database)
    await store.put_certificate("kms.a", "<a/>")
    await migrate(database, "key_servers.kms.migrations")
    assert await store.certificates(0) == (["<a/>"], 1)
    async with database.transaction() as sql:
        await sql.rows("UPDATE schemas SET version = 99")
    with pytest.raises(StoreUnusable, match="newer release"):
        await migrate(database, "key_servers.kms.migrations")


async def test_two_processes_may_come_up_at_once(postgres_url: str, tmp_path: Path) -> None:
    both = [await open_database(postgres_url, tmp_path / "x") for _ in range(2)]
    await asyncio.gather(*(migrate(each, "key_servers.kms.migrations") for each in both))
    async with both[0].transaction() as sql:
        assert list(await sql.rows("SELECT newest FROM kms_cache_number")) == [(0,)]
        for table in ("kms_tokens", "kms_users", "kms_certificates", "kms_cache_number", "schemas"):
            await sql.rows(f"DROP TABLE {table}")
    for each in both:
        await each.close()


async def test_a_database_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    for url in (
        f"postgresql://keycast:hunter2@/d?host={tmp_path}",
        "mysql://keycast:hunter2@h/d",
        "postgresql://[:hunter2",
    ):
        with pytest.raises(StoreUnusable) as caught:
            await open_database(url, tmp_path / "x")
        assert "hunter2" not in str(caught.value)


async def test_the_file_is_private_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kms.sqlite3"
    store = await KmsStore.open(await open_database(None, path))
    await store.add_user(KmsUser(ALICE, Role.USER, NOW), drawn(ALICE))
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}
    await store.close()
    path.chmod(0o644)
    with pytest.raises(StoreUnusable, match="chmod 600"):
        await open_database(None, path)


async def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "kms.sqlite3"
    path.write_bytes(b"no database" * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreUnusable, match="damaged"):
        await open_database(None, path)


async def test_a_command_beside_the_server_waits_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "kms.sqlite3"
    first = await KmsStore.open(await open_database(None, path))
    second = await KmsStore.open(await open_database(None, path))
    await first.add_user(KmsUser(ALICE, Role.USER, NOW), drawn(ALICE))
    await second.revoke_user(ALICE, NOW + 1)
    assert await first.user(ALICE) == KmsUser(ALICE, Role.USER, NOW, NOW + 1)
    await first.close()
    await second.close()


async def test_what_is_deleted_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kms.sqlite3"
    database = await open_database(None, path)
    async with database.transaction() as sql:
        await sql.rows("CREATE TABLE scratch (text TEXT)")
        await sql.rows("INSERT INTO scratch VALUES ($1)", "a secret")
    async with database.transaction() as sql:
        await sql.rows("DELETE FROM scratch")
    await database.close()
    assert b"a secret" not in path.read_bytes()
