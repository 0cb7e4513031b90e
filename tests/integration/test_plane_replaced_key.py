"""A session belongs to a key, not to a name (SEC-32): all sessions of a replaced or removed key end at once.

The holder of the old key has a live session, an unused handshake, one half way, a request on the way; the key is
replaced by this process or by another one, through the store's file.
"""

import asyncio
import contextlib
import sqlite3

import pytest

from message_plane import endpoint as endpoint_module
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile
from private_store.migrations import scripts
from tests.integration.plane_world import Wire, parties
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_link")

SERVER_AND_GATEWAY = ("server", "server"), ("gw", "gateway")


@pytest.fixture(autouse=True)
def no_housekeeping(monkeypatch):
    """What holds only after the next round of housekeeping does not hold."""
    monkeypatch.setattr(endpoint_module, "_HOUSEKEEPING_S", 3600)


def other_key(folder):
    return OwnIdentity.create(folder / "new.key", "gw", "gateway").credential


def replaced(store, folder):
    store.register(other_key(folder))


def replaced_with_another_role(store, folder):
    now = store.credential("gw")
    store.register(type(now)(now.entity_id, "server", now.x, now.ccs, now.kid))


def removed(store, folder):
    assert store.unregister("gw")


@contextlib.contextmanager
def here(party):
    yield party.store


@contextlib.contextmanager
def in_another_process(party):
    with contextlib.closing(SessionFile(party.store.path)) as store:
        yield store


CHANGES = pytest.mark.parametrize("change", [replaced, replaced_with_another_role, removed])
PLACES = pytest.mark.parametrize("place", [here, in_another_process])


async def refused(party, entity_id):
    with pytest.raises(PlaneError):
        await party.ask(entity_id, b"\xa0", timeout_s=1)


@pytest.mark.req("SEC-32")
@CHANGES
@PLACES
async def test_a_live_session_is_neither_served_nor_used(tmp_path, change, place):
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        await old.endpoint.connect("server", server.place)
        await old.ask("server", b"\xa0")
        await server.ask("gw", b"\xa0")
        with place(server) as store:
            change(store, tmp_path)
        assert server.store.contexts() == []
        assert not server.endpoint.has_session("gw") and server.endpoint.entities() == set()
        with pytest.raises(PlaneError):
            server.endpoint.export("gw", 32768, 32)
        await refused(old, "server")
        await refused(server, "gw")
        assert len(server.got) == 1 and len(old.got) == 1


@pytest.mark.req("SEC-32")
@CHANGES
@PLACES
async def test_a_handshake_left_unused_makes_no_session(tmp_path, change, place):
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        await old.endpoint.connect("server", server.place)  # nothing was sent on it: a candidate at the Server
        with place(server) as store:
            change(store, tmp_path)
        await refused(old, "server")
        assert not server.got and server.store.contexts() == []
        await server.restart()
        await refused(old, "server")
        assert not server.got and server.endpoint.entities() == set()


@pytest.mark.req("SEC-32")
@CHANGES
@PLACES
async def test_a_handshake_left_unused_is_not_kept_in_memory_either(tmp_path, change, place):
    """It is nowhere on the disk, so nothing is missing there: it goes because its key does not stand any more."""
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        await old.endpoint.connect("server", server.place)
        await server.endpoint.reconcile()
        assert "gw" in server.endpoint.entities(), "while its key stands it waits to be used"
        with place(server) as store:
            change(store, tmp_path)
        await server.endpoint.reconcile()
        assert server.counters["sessions_ended"] == 1


@pytest.mark.req("SEC-32")
@PLACES
async def test_a_handshake_of_ours_with_the_old_key_that_is_half_way_makes_no_session(tmp_path, place):
    """The gateway asks a Server whose key is replaced before message_4 comes."""
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, gateway):
        wire = await Wire.open(server.place)
        passed = []

        def judge(data, towards_server):
            if not towards_server:
                passed.append(data)
                if len(passed) == 2:  # message_4
                    with place(gateway) as store:
                        store.register(OwnIdentity.create(tmp_path / "new.key", "server", "server").credential)
            return data

        wire.judge = judge
        try:
            with pytest.raises(PlaneError, match="not registered any more"):
                await gateway.endpoint.connect("server", wire.place)
        finally:
            await wire.close()
        assert len(passed) == 2 and gateway.store.contexts() == [] and not gateway.endpoint.has_session("server")


@pytest.mark.req("SEC-32")
@CHANGES
@PLACES
async def test_a_request_on_the_way_is_not_answered(tmp_path, change, place):
    """Its handler waits, for a Group Key say, while the key of who asked is replaced."""
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        go_on = asyncio.Event()

        async def slow(payload):
            await go_on.wait()
            return b"\xa1the Group Key"

        server.answer = slow
        await old.endpoint.connect("server", server.place)
        request = asyncio.create_task(refused(old, "server"))
        await until(lambda: server.got)
        with place(server) as store:
            change(store, tmp_path)
        go_on.set()
        await request


@pytest.mark.req("SEC-32")
@PLACES
async def test_the_answer_to_a_request_of_ours_is_not_taken_from_the_old_key(tmp_path, place):
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        await old.endpoint.connect("server", server.place)
        await old.ask("server", b"\xa0")
        go_on = asyncio.Event()

        async def slow(payload):
            await go_on.wait()
            return b"\xa1"

        old.answer = slow
        request = asyncio.create_task(server.ask("gw", b"\xa0", timeout_s=10))
        await until(lambda: old.got)
        with place(server) as store:
            replaced(store, tmp_path)
        go_on.set()
        with pytest.raises(PlaneError, match="is over"):
            await request


@pytest.mark.req("SEC-32")
async def test_the_new_key_gets_in_beside_what_is_left_of_the_old_one(tmp_path):
    async with parties(tmp_path, *SERVER_AND_GATEWAY) as (server, old):
        await old.endpoint.connect("server", server.place)
        await old.ask("server", b"\xa0")
        old.endpoint._sessions.drop("server")
        await old.endpoint.connect("server", server.place)  # a candidate beside the live one
        await old.stop()
        old.identity = OwnIdentity.create(tmp_path / "new.key", "gw", "gateway")
        server.store.register(old.credential)
        await old.start()
        old.knows(server)
        await old.endpoint.connect("server", server.place)
        await old.ask("server", b"\xa0new", timeout_s=5)
        assert server.got[-1][1] == b"\xa0new" and server.endpoint.has_session("gw")
        assert len(server.store.contexts()) == 1


@pytest.mark.req("SEC-32")
async def test_contexts_of_a_store_made_earlier_end_because_their_key_is_not_told(tmp_path):
    """One of them may be of a replaced key, made permanent before keys were compared."""
    path = tmp_path / "server.db"
    lamp = OwnIdentity.create(tmp_path / "gw.key", "gw", "gateway").credential
    path.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(scripts("message_plane.migrations")[0])
        old.execute("INSERT INTO credential VALUES (?, ?, ?, ?, ?)", ("gw", "gateway", lamp.x, lamp.ccs, lamp.kid))
        old.execute(
            "INSERT INTO oscore_context VALUES (?, ?, 'gw', ?, ?, 1, 64, NULL, NULL)",
            (b"abc", b"de", b"remember this 16", b"saltsalt"),
        )
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with contextlib.closing(SessionFile(path)) as store:
        assert store.credential("gw") == lamp and store.contexts() == []
        assert all(b"remember this 16" not in each.read_bytes() for each in tmp_path.glob("server.db*"))
