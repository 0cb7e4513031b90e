"""GMS and CMS on a real PostgreSQL server: the same statements, the same outcome."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from key_servers.cms.profiles import Profiles
from key_servers.gms.values import KeyState
from key_servers.sql import Database, again, migrate, open_database
from mikey_sakke.group_configuration import KEY, REVOCATION
from tests.unit.postgres_server import postgres
from tests.unit.seal_world import ALICE, BOB, CREW, GMS, Clock, GmsInside, KmsSecrets, client_of, profile

pytestmark = pytest.mark.real_time


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TemporaryDirectory() as folder, postgres(Path(folder)) as made:
        yield made


@pytest.mark.req("SEAL-GMK-48", "MC-GMK-22")
async def test_a_gms_keeps_its_groups_in_postgresql(url: str, tmp_path: Path) -> None:
    kms, clock = KmsSecrets(), Clock()
    gms = await GmsInside.open(kms, tmp_path, clock, url)
    await gms.management.create_group(CREW, "the crew")
    clients, stores = {}, []
    for user in (ALICE, BOB):
        await gms.user(user, CREW)
        clients[user], store = client_of(kms, tmp_path, clock, user)
        stores.append(store)
        clients[user].apply_profile(profile(user=user, crew=GMS))
    first = await gms.management.make_key([CREW])
    for user in (ALICE, BOB):
        assert [answer.code for answer in await gms.serve(clients[user])] == [""]
    clock.unix += 1
    second = await gms.management.remove_member(CREW, BOB)
    assert second is not None
    assert [answer.code for answer in await gms.serve(clients[ALICE])] == ["", ""]
    assert await gms.serve(clients[BOB]) == []
    for store in stores:
        store.close()
    await gms.close()
    again = await GmsInside.open(kms, tmp_path, clock, url)
    assert await again.states(second) == {(ALICE, KEY): "done"}
    assert (await again.states(first))[ALICE, REVOCATION] == "done"
    ((_, _, keys),) = await again.management.groups()
    assert [(key.key_id, key.state) for key in keys] == [(first, KeyState.REVOKED), (second, KeyState.LIVE)]
    await again.close()


@pytest.mark.req("SEAL-GMK-36", "SEAL-GMK-45")
async def test_a_cms_keeps_its_profiles_in_postgresql(url: str, tmp_path: Path) -> None:
    database = await open_database(url, tmp_path / "unused")
    await migrate(database, "key_servers.cms.migrations")
    profiles = Profiles(database, lambda: int(time.time()))
    await profiles.add_user(ALICE)
    await profiles.subscribe(ALICE)
    revision = await profiles.put_membership(ALICE, CREW, GMS)
    found = await profiles.profile_after(ALICE, 1, 0)
    assert found is not None and (found.revision, found.groups) == (revision, {CREW: GMS})
    assert await profiles.profile_after(ALICE, revision, 0) is None
    await profiles.remove_membership(ALICE, CREW)
    assert (await profiles.profile(ALICE)).groups == {}
    await database.close()


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_rules_that_read_and_write_follow_one_another(url: str, tmp_path: Path, kind: str) -> None:
    """A rule that reads members and keys and then writes must see what the one before it wrote."""
    if kind == "postgresql":  # two servers on one database
        first, second = [await open_database(url, tmp_path / "unused") for _ in range(2)]
    else:
        first = second = await open_database(None, tmp_path / "file")
    async with first.transaction() as sql:
        await sql.rows("CREATE TABLE turns (number BIGINT)")

    @again
    async def take_turn(database: Database) -> int:
        async with database.transaction() as sql:
            ((count,),) = await sql.rows("SELECT count(*) FROM turns")
            await asyncio.sleep(0)
            await sql.rows("INSERT INTO turns VALUES ($1)", count)
            return int(count)

    taken = await asyncio.gather(*(take_turn(database) for database in (first, second) * 4))
    assert sorted(taken) == list(range(8))
    async with first.transaction() as sql:
        await sql.rows("DROP TABLE turns")
    for database in {first, second}:
        await database.close()
