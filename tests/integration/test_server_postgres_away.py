"""PostgreSQL goes away, comes back, and comes back as an older one (SEC-03, SEC-23)."""

import gc
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cpns.errors import NotAllowed
from key_servers.cpns_server import group_version, tuning
from key_servers.cpns_server.alarms import HELD, STORE
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.postgres.connection import connect
from key_servers.cpns_server.postgres.database import PostgresServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import StoreFailed, StoreUnusable
from tests.unit.cpns_server_parts import House, PnGw, succeeded
from tests.unit.postgres_server import PostgresNode, postgres_node
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.real_time

SG = "light"


@contextmanager
def node(*settings: str) -> Iterator[PostgresNode]:
    """Its folder has a short name, as the path of a socket may have 107 octets."""
    with tempfile.TemporaryDirectory() as folder, postgres_node(Path(folder), *settings, durable=True) as running:
        yield running


@contextmanager
def standby_of(primary: PostgresNode) -> Iterator[PostgresNode]:
    with tempfile.TemporaryDirectory() as folder:
        standby = primary.standby(Path(folder))
        standby.start()
        try:
            yield standby
        finally:
            standby.stop("immediate")


def either(one: PostgresNode, other: PostgresNode) -> str:
    """The URL of that one of two servers which takes writes."""
    return f"{one.url},{other.folder}"


async def a_house(url: str, folder: Path) -> tuple[House, PnGw]:
    house = await House.open(folder, ServerConfig(batching_s=0), by_itself=True, database_url=url)
    home = house.gateway("home")
    house.server.create_group(SG, open_to=["pn.home"])
    assert succeeded(await house.join(home, "lamp", SG))
    await until(lambda: home.newest(SG) == 2)
    return house, home


def test_a_connection_that_is_accepted_and_never_answered_is_closed_at_once() -> None:
    """Such a server is stuck, and is asked again and again."""
    gc.disable()
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(StoreUnusable, match="cannot be reached: connection timeout"):
                connect(f"postgresql://keycast:x@127.0.0.1:{silent.getsockname()[1]}/keycast?sslmode=disable")
            peer, _ = silent.accept()
            with peer:
                peer.settimeout(PATIENCE_S)
                while peer.recv(1000):  # what libpq began with; then the end
                    pass
    finally:
        gc.enable()


def test_a_database_that_answers_nothing_costs_two_seconds_once() -> None:
    with node() as running:
        store = ServerStore(PostgresServerDatabase(running.url))
        running.suspend()
        try:
            began = time.monotonic()
            with pytest.raises(StoreFailed, match="cannot be used"), store.transaction():
                store.bind_pne("lamp", "pn.home")
            first = time.monotonic() - began
            for _ in range(100):
                with pytest.raises(StoreFailed):
                    store.pn_of("lamp")
            store.probe()  # a thread tries to connect meanwhile
            assert store.trouble
            assert first >= tuning.DATABASE_WAIT_S * 0.9
            assert time.monotonic() - began < first + tuning.DATABASE_WAIT_S, "it waits again and again"
        finally:
            running.resume()
        while store.trouble:
            store.probe()
        with store.transaction():
            store.bind_pne("lamp", "pn.home")
        assert store.pn_of("lamp") == "pn.home"
        store.close()


@pytest.mark.req("SEC-03")
@pytest.mark.parametrize("how", ["ended", "suspended"])
async def test_while_the_database_is_away_nothing_is_half_done_and_afterwards_nothing_is_lost(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STORE_LOOK_S", 0.2)
    monkeypatch.setattr(tuning, "LOT_RETRY_S", 0.2)
    monkeypatch.setattr(tuning, "UPDATE_RETRY_S", 0.2)
    with node() as running:
        house, home = await a_house(running.url, tmp_path / "server")
        if how == "ended":
            running.stop("immediate")
        else:
            running.suspend()
        with pytest.raises(StoreFailed):
            house.server.update_key(SG)
        assert not succeeded(await house.join(home, "door", SG))
        await until(lambda: [each.kind for each in house.server.alarms()] == [STORE])
        away = house.server.status()
        assert away.group_count is away.gateway_count is None and [each.kind for each in away.alarms] == [STORE]
        assert home.newest(SG) == 2
        if how == "ended":
            running.start()
        else:
            running.resume()
        await until(lambda: not house.server.alarms())
        assert house.server.status().group_count == 1
        assert succeeded(await house.join(home, "door", SG))
        await until(lambda: home.newest(SG) == house.server.show_group(SG).version == 3)
        assert home.members[SG] == ["door", "lamp"]
        await house.server.close()


@pytest.mark.req("SEC-03")
@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_promoted_standby_holds_the_groups_and_issues_no_version_twice(
    synchronous: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STORE_LOOK_S", 0.2)
    monkeypatch.setattr(tuning, "UPDATE_RETRY_S", 0.2)
    with node() as primary, standby_of(primary) as standby:
        with psycopg.connect(primary.url, autocommit=True) as operator:
            await until(lambda: operator.execute("SELECT count(*) FROM pg_stat_replication").fetchall() == [(1,)])
            if synchronous:
                operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
                operator.execute("SELECT pg_reload_conf()")
                state = "SELECT sync_state FROM pg_stat_replication"
                await until(lambda: operator.execute(state).fetchall() == [("sync",)])
        house, home = await a_house(either(primary, standby), tmp_path / "server")
        if not synchronous:
            standby.stop()  # it hears no more of what the primary acknowledges
        assert succeeded(await house.join(home, "door", SG))
        await until(lambda: home.newest(SG) == 3)
        issued = dict(home.keys[SG])
        primary.stop("immediate")
        if not synchronous:
            standby.start()
        standby.promote()
        await until(lambda: _state(house) == "held")
        await until(lambda: [each.kind for each in house.server.alarms()] == [HELD])
        shown = house.server.show_group(SG)
        assert {each.pne_id for each in shown.members} == ({"door", "lamp"} if synchronous else {"lamp"})
        assert home.keys[SG] == issued
        with pytest.raises(NotAllowed):
            house.server.update_key(SG)
        version = house.server.confirm_members(SG)
        await until(lambda: home.newest(SG) == version and not house.server.alarms())
        assert group_version.epoch_of(version) == 1 and home.keys[SG][version] not in issued.values()
        await house.server.close()


def _state(house: House) -> str:
    try:
        return house.server.show_group(SG).state
    except StoreFailed:
        return ""


@pytest.mark.req("SEC-03")
async def test_a_dump_that_was_loaded_again_holds_the_groups(tmp_path: Path) -> None:
    with node() as running:
        house, _ = await a_house(running.url, tmp_path / "server")
        await house.server.close()
        running._run("pg_dump", "-n", "cpns_server", "-f", str(running.folder / "dump.sql"), "-d", running.url)
        with psycopg.connect(running.url, autocommit=True) as operator:
            operator.execute("DROP SCHEMA cpns_server CASCADE")
        running._run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(running.folder / "dump.sql"), "-d", running.url)
        for _ in range(2):  # told once
            house = await House.open(tmp_path / "server", database_url=running.url)
            assert _state(house) == "held"
            held_at = house.server.show_group(SG).version
            await house.server.close()
        assert group_version.epoch_of(held_at) == 1
