"""Several processes of one CPNS Server on one PostgreSQL database: nothing is lost, nothing is made twice."""

import asyncio
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarms import SILENT, ServerAlarms
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.postgres.alarms import PostgresAlarmBoard
from key_servers.cpns_server.postgres.database import PostgresServerDatabase
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from key_servers.cpns_server.values import Moment
from key_servers.errors import ServerError
from message_plane.identity import OwnIdentity
from tests.unit.cpns_server_parts import House, succeeded
from tests.unit.server_databases import emptied, postgres_url
from tests.waiting import PATIENCE_S, until

__all__ = ["postgres_url"]

PROGRAM = Path(__file__).with_name("cpns_server_to_kill.py")
SG = "light"


@pytest.fixture
def url(postgres_url: str) -> str:
    emptied(postgres_url)
    return postgres_url


@pytest.mark.real_time
@pytest.mark.req("CPNS-GKM-60")
@pytest.mark.parametrize("by", ["notification", "poll"])
async def test_a_change_in_one_process_is_carried_out_by_another_that_has_the_gateway(
    by: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "POLL_S", 3600.0 if by == "notification" else 0.2)
    if by == "poll":
        monkeypatch.setattr(PostgresServerDatabase, "_tell", lambda _: None)
    monkeypatch.setattr(tuning, "LOOK_AT_LEAST_EVERY_S", 3600.0)
    one, other = [
        await House.open(tmp_path / name, ServerConfig(batching_s=0), by_itself=True, database_url=url)
        for name in ("one", "other")
    ]
    home = other.gateway("home")
    one.server.create_group(SG, open_to=["pn.home"])
    assert succeeded(await other.join(home, "lamp", SG))
    await until(lambda: home.newest(SG) == 2)
    version = one.server.update_key(SG)
    await until(lambda: home.newest(SG) == version)
    one.server.expel(SG, "lamp")
    await until(lambda: home.members[SG] == [])
    await one.server.close()
    await other.server.close()


async def test_an_update_that_a_dead_process_noted_is_made_by_another_once(url: str, tmp_path: Path) -> None:
    one = await House.open(tmp_path / "one", database_url=url)
    other = await House.open(tmp_path / "other", None, one.clock, database_url=url)
    home = one.gateway("home")
    one.server.create_group(SG, open_to=["pn.home"])
    assert succeeded(await one.join(home, "lamp", SG))  # an update waits for the end of the batch
    for follower in other.server._store._followers_elsewhere:
        follower["", ""] = None  # what a notification does
    other.server.work()
    assert other.server.show_group(SG).update_pending
    one.clock.advance(tuning.BATCHING_S)
    other.server.work()
    assert other.server.show_group(SG).update_pending, "the process that noted it comes first"
    one.clock.advance(tuning.UPDATE_OF_ANOTHER_S)
    other.server.work()
    assert (other.server.show_group(SG).version, other.server.show_group(SG).update_pending) == (2, False)
    one.server.work()
    assert one.server.show_group(SG).version == 2, "made twice"
    await one.server.close()
    await other.server.close()


async def test_a_periodic_update_that_two_processes_see_due_is_made_once(url: str, tmp_path: Path) -> None:
    config = ServerConfig(period_s=60)
    one = await House.open(tmp_path / "one", config, database_url=url)
    one.server.create_group(SG)
    other = await House.open(tmp_path / "other", config, one.clock, database_url=url)
    for expected in (2, 3, 4):
        one.clock.advance(60 + tuning.UPDATE_OF_ANOTHER_S)
        one.server.work()
        other.server.work()
        assert one.server.show_group(SG).version == expected
    await one.server.close()
    await other.server.close()


async def test_processes_on_one_database_have_one_key_and_a_file_from_before_becomes_it(
    url: str, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    OwnIdentity.create(tmp_path / "one" / IDENTITY_FILE, "server.local", "server")
    credentials = []
    for name in ("one", "other"):
        listening = ServerConfig(listen=["127.0.0.1"], port=0)
        server = await CpnsServer.open(tmp_path / name, listening, database_url=url)
        credentials.append(server.credential())
        await server.close()
    assert credentials[0] == credentials[1] == OwnIdentity.load(tmp_path / "one" / IDENTITY_FILE).credential.ccs
    assert not (tmp_path / "other" / IDENTITY_FILE).exists()
    with pytest.raises(ServerError, match="belongs to"):
        await CpnsServer.open(tmp_path / "one", ServerConfig(id="other.local", listen=["127.0.0.1"]), database_url=url)


async def test_alarms_of_one_process_are_shown_and_dismissed_at_the_others(url: str) -> None:
    now = Moment(0.0, 1_700_000_000)
    later = Moment(tuning.ALARMS_LOOK_S, 1_700_000_005)
    databases = [PostgresServerDatabase(url) for _ in range(2)]
    one, other = PostgresAlarmBoard(databases[0], "one"), PostgresAlarmBoard(databases[1], "other")
    with databases[0].transaction():
        databases[0].write("INSERT INTO server_process VALUES ('one', 0)")
    alarms = ServerAlarms()
    alarms.set(SILENT, "gw.home", "", "PN GW gw.home is silent.", now)
    one.look(alarms, now)
    assert list(other.elsewhere()) == [], "its process lives no more"
    with databases[0].transaction():
        databases[0].write("UPDATE server_process SET expires = 9000000000000")
    mine = ServerAlarms()
    mine.set(SILENT, "gw.office", "", "PN GW gw.office is silent.", now)
    assert {each.gateway_id for each in mine.standing(other.elsewhere())} == {"gw.home", "gw.office"}
    assert not other.dismiss(SILENT, "gw.away", "") and other.dismiss(SILENT, "gw.home", "")
    assert list(other.elsewhere()) == []
    one.look(alarms, later)
    assert alarms.standing() == ()
    for database in databases:
        database.close()


@pytest.mark.req("CPNS-GKM-60", "SEC-03")
def test_two_processes_that_race_for_a_group_lose_no_member_and_make_no_version_twice(url: str, tmp_path: Path) -> None:
    """Two loops in two threads: joins, leaves and updates by hand, as fast as they can."""

    async def prepare() -> None:
        house = await House.open(tmp_path / "first", database_url=url)
        for name in "ab":
            house.gateway(name)
        house.server.create_group(SG, open_to=["pn.a", "pn.b"])
        await house.server.close()

    async def work(name: str) -> tuple[set[str], list[int]]:
        house = await House.open(tmp_path / name, ServerConfig(batching_s=0), database_url=url)
        home, members, versions = house.gateway(name), set(), []
        for number in range(24):
            pne_id = f"{name}{number}"
            assert succeeded(await again(lambda pne_id=pne_id: house.join(home, pne_id, SG)))
            members.add(pne_id)
            if number % 3 == 0:
                assert succeeded(await again(lambda pne_id=pne_id: house.leave(home, pne_id, SG)))
                members.remove(pne_id)
            if number % 4 == 0:
                versions.append(house.server.update_key(SG))
        await house.server.close()
        return members, versions

    async def again(ask):  # type: ignore[no-untyped-def]
        for _ in range(5):
            answer = await ask()
            if succeeded(answer):
                break
        return answer

    asyncio.run(prepare())
    with ThreadPoolExecutor(2) as threads:
        (a, of_a), (b, of_b) = threads.map(lambda name: asyncio.run(work(name)), "ab")
    assert len({*of_a, *of_b}) == len(of_a) + len(of_b), "two processes made one version"

    async def look() -> set[str]:
        house = await House.open(tmp_path / "last", database_url=url)
        shown = {each.pne_id for each in house.server.show_group(SG).members if each.state == "member"}
        await house.server.close()
        return shown

    assert asyncio.run(look()) == a | b


@pytest.mark.req("SEC-03", "SEC-23")
def test_no_version_has_two_keys_though_processes_race_and_are_killed(url: str, tmp_path: Path) -> None:
    chance = random.Random(1972)
    keys: dict[tuple[str, int], str] = {}
    for life in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, str(PROGRAM), str(tmp_path / name), f"{life}{number}", url],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=PROGRAM.parents[2],
            )
            for number, name in enumerate("ab")
        ]
        firsts = [[process.stdout.readline() for _ in range(4)] for process in processes if process.stdout]
        time.sleep(chance.uniform(0.2, 0.6))
        for process, first in zip(processes, firsts, strict=True):
            process.kill()
            rest, complaints = process.communicate(timeout=PATIENCE_S)
            assert all(first), complaints
            for line in ("".join(first) + rest).split("\n")[:-1]:
                sg_id, version, digest = line.split()
                assert keys.setdefault((sg_id, int(version)), digest) == digest, f"two keys of {version} of {sg_id}"
    assert len(keys) > 6
