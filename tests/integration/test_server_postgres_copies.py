"""Backups of a CPNS Server in PostgreSQL, which are those of any other: from either store into either store."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest

from gateway_agent.errors import GatewayError
from key_servers.cpns_server import group_version
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.postgres.database import PostgresServerDatabase
from key_servers.errors import NotPossible, StoreInUse
from keycast.copies import state_copies
from message_plane import credentials
from private_store import sealed
from tests.unit.server_databases import emptied, postgres_url

__all__ = ["postgres_url"]

CONFIG = ServerConfig(listen=["127.0.0.1"], port=0)
SG = "light"
LOCK = sealed.Lock({"kind": "of this test"}, os.urandom(32))
UNLOCK = sealed.with_key_of(LOCK)


@pytest.fixture
def url(postgres_url: str) -> str:
    emptied(postgres_url)
    return postgres_url


async def fill(state: Path, url: str | None) -> bytes:
    """A Server with a PN GW, a member and a key; its credential."""
    state.mkdir(mode=0o700)
    server = await CpnsServer.open(state, CONFIG, database_url=url)
    server.register_gateway("gw.home", "pn.home", credentials.of("gw.home", "gateway", b"x" * 32).ccs, is_open=True)
    server.create_group(SG, open_to=["pn.home"])
    server.permit(SG, "lamp")
    credential = server.credential()
    await server.close()
    return credential


@pytest.mark.req("SEC-03", "SEC-33")
@pytest.mark.parametrize("was", ["postgresql", "sqlite"])
def test_a_backup_goes_into_postgresql_as_an_older_copy(url: str, tmp_path: Path, was: str) -> None:
    state, backup = tmp_path / "state", tmp_path / "server.backup"
    source = url if was == "postgresql" else None
    credential = asyncio.run(fill(state, source))
    with state_copies.server_state(state):
        server_id, images = state_copies.stopped_server(state, source)
        state_copies.write_server_backup(server_id, backup, images, LOCK, identity=True)

    async def go_on() -> int:
        server = await CpnsServer.open(state, CONFIG, database_url=url)
        try:
            if was == "sqlite":
                return 0
            return max(server.update_key(SG) for _ in range(3))
        finally:
            await server.close()

    issued = asyncio.run(go_on())
    with state_copies.server_state(state):
        assert state_copies.put_back_server(state, backup, UNLOCK, url=url, older=True).held == (SG,)

    async def look() -> None:
        server = await CpnsServer.open(state, CONFIG, database_url=url)
        shown = server.show_group(SG)
        assert shown.state == "held" and group_version.epoch_of(shown.version) >= 1 and shown.version > issued
        assert [each.pne_id for each in shown.members] == ["lamp"]
        assert server.credential() == credential and server._sessions is not None
        assert [each.entity_id for each in server._sessions._sessions.registered()] == ["gw.home"]
        assert server.confirm_members(SG) > issued
        await server.close()

    asyncio.run(look())
    assert not list(state.glob("tmp*")), "what was done on the way is left"


async def test_nothing_is_put_back_under_a_process_that_lives(url: str, tmp_path: Path) -> None:
    state, backup = tmp_path / "state", tmp_path / "server.backup"
    with pytest.raises(NotPossible, match="no CPNS Server"):
        state_copies.stopped_server(state, url)
    await fill(state, url)
    server_id, images = state_copies.stopped_server(state, url)
    state_copies.write_server_backup(server_id, backup, images, LOCK, identity=True)
    with closing(PostgresServerDatabase(url)) as database, database.transaction():
        database.write("INSERT INTO server_process VALUES ('another', 9000000000000)")
    with pytest.raises(StoreInUse, match="Stop all of them"):
        await asyncio.to_thread(state_copies.put_back_server, state, backup, UNLOCK, url=url)


async def test_another_server_in_the_database_is_not_replaced_and_one_without_identity_keeps_its_own(
    url: str, tmp_path: Path
) -> None:
    credential = await fill(tmp_path / "state", url)
    server_id, images = await asyncio.to_thread(state_copies.stopped_server, tmp_path / "state", url)
    whole, part = tmp_path / "whole.backup", tmp_path / "part.backup"
    state_copies.write_server_backup(server_id, whole, images, LOCK, identity=True)
    state_copies.write_server_backup(server_id, part, images, LOCK, identity=False)

    async def restore(backup: Path) -> state_copies.PutBack:
        return await asyncio.to_thread(
            state_copies.put_back_server, tmp_path / "state", backup, UNLOCK, url=url, older=True
        )

    assert (await restore(part)).held == (SG,)
    server = await CpnsServer.open(tmp_path / "state", CONFIG, database_url=url)
    assert server.credential() == credential
    await server.close()
    emptied(url)
    with pytest.raises(NotPossible, match="no CPNS Server"):
        await restore(part)
    await fill(tmp_path / "another", url)
    with pytest.raises(GatewayError, match="has another identity than the database"):
        await restore(whole)
    with pytest.raises(GatewayError, match="has no identity, and the Server's is another one"):
        await restore(part)
