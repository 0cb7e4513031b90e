"""What every session store promises: a SQLite file with one lease, and PostgreSQL with one for each shard."""

import asyncio
import dataclasses
import secrets
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from key_servers.cpns_server.shards.leases import LEASE_MS
from message_plane import credentials, holder
from message_plane.commit_queue import CommitQueue
from message_plane.errors import LeaseLost, NameTaken, RegistrationRefused, StoreError
from message_plane.identity import OwnIdentity
from message_plane.lease import Lease
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, CountTime, RaiseCeiling, RemoveContext, SetPlace, StoredContext
from tests.unit.postgres_server import postgres
from tests.unit.server_databases import emptied

OWN_X = b"\x01" * 32
SHARD = 7


def fresh(entity_id, role="gateway"):
    return OwnIdentity(entity_id, role, ec.generate_private_key(ec.SECP256R1())).credential


def context(recipient_id=b"abc", entity_id="gw", ceiling=64):
    return StoredContext(recipient_id, b"\x01\x02", entity_id, bytes(16), b"saltsalt", 1000, ceiling, "mqtt:00")


@pytest.fixture(scope="module")
def postgres_url():
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as url:
        yield url


class FileWorld:
    """Two processes with one file, of which one has the lease at a time."""

    def __init__(self, path):
        self.path = path
        self.one, self.other = SessionFile(path), SessionFile(path)
        self.lease = self.one.acquire(OWN_X)

    def take_over(self):
        """The other process takes the lease, as that of the first has ended."""
        with self.other._transaction() as database:
            database.execute("UPDATE lease SET expires = 0")
        return self.other.acquire(OWN_X)

    def hear(self):
        """The processes see what they changed."""

    def close(self):
        self.one.close()
        self.other.close()


class PostgresWorld:
    """Two processes with one database, of which the first has a shard that the second can take."""

    def __init__(self, url):
        from key_servers.cpns_server.postgres.connection import connect
        from key_servers.cpns_server.postgres.database import PostgresServerDatabase
        from key_servers.cpns_server.postgres.sessions import PostgresSessions
        from key_servers.cpns_server.postgres.shards import PostgresShards, process_name

        PostgresServerDatabase(url).close()  # brings the schema up to date
        self.connect = partial(connect, url)
        self.one, self.other = PostgresSessions(self.connect), PostgresSessions(self.connect)
        self.tables = [PostgresShards(self.connect, process_name(start)) for start in ("one", "other")]
        for store in (self.one, self.other):
            assert store.acquire(OWN_X) is None
        self.lease = self._claimed(0)

    def _claimed(self, number):
        found = self.tables[number].round(lambda living: 64)
        return Lease(found.tokens[SHARD], 1 << 62, SHARD)

    def take_over(self):
        self.one._connection.execute("UPDATE shard SET expires = 0")
        return self._claimed(1)

    def hear(self):
        self.one.refresh("")
        self.other.refresh("")

    def close(self):
        for each in (self.one, self.other, *self.tables):
            each.close()


@pytest.fixture(params=["file", "postgresql"])
def world(request, tmp_path):
    if request.param == "file":
        world = FileWorld(tmp_path / "sessions.db")
    else:
        url = request.getfixturevalue("postgres_url")
        emptied(url)
        world = PostgresWorld(url)
    yield world
    world.close()


@pytest.fixture
def gw(world):
    credential = fresh("gw")
    world.one.bind(credential, replace=False)
    world.hear()
    return credential


def test_a_registered_credential_is_found_by_name_and_by_hint(world, gw):
    for store in (world.one, world.other):
        assert store.credential("gw") == gw and store.stands(gw)
        assert store.candidates(gw.kid) == [gw] and store.registered() == [gw]
        assert store.credential("gv") is None and store.candidates(bytes(8)) == []
        assert store.successor(kid=gw.kid) is None
    assert not world.one.bind(gw, replace=False)


@pytest.mark.req("SEC-16", "SEC-31")
def test_names_and_keys_are_bound_once(world, gw):
    with pytest.raises(RegistrationRefused, match="registered as 'gw' already"):
        world.other.bind(credentials.of("stolen", "gateway", gw.x), replace=False)
    with pytest.raises(NameTaken):
        world.other.bind(fresh("gw"), replace=False)
    with pytest.raises(NameTaken):
        world.other.bind(fresh("gw", "pne"), replace=True)
    with pytest.raises(NameTaken):
        world.other.bind(fresh("server"), replace=False, reserved=("server",))
    with pytest.raises(RegistrationRefused):
        world.other.bind(fresh("a\nb"), replace=False)
    assert world.one.registered() == [gw]


@pytest.mark.req("SEC-32")
def test_another_key_ends_the_contexts_of_the_old_one_in_all_processes(world, gw):
    world.one.commit({world.lease: [AddContext(context(), gw)]})
    edition = world.one.edition()
    assert world.other.require_bindable(fresh("gw"), replace=True)
    assert world.one.edition() == edition and len(world.one.contexts()) == 1
    new = fresh("gw")
    world.other.bind(new, replace=True)
    world.hear()
    assert world.one.contexts() == [] and world.one.edition() != edition
    assert not world.one.stands(gw) and world.one.stands(new)
    assert world.one.commit({world.lease: [AddContext(context(b"xyz"), gw)]}) == {b"xyz"}, "the handshake was too slow"
    assert world.one.contexts() == []


@pytest.mark.req("SEC-32")
def test_who_is_unregistered_has_no_context_left(world, gw):
    world.one.commit({world.lease: [AddContext(context(), gw)]})
    assert world.other.unregister("gw") and not world.other.unregister("gw")
    world.hear()
    assert world.one.contexts() == [] and not world.one.stands(gw)
    assert world.one.candidates(gw.kid) == []


@pytest.mark.req("SEC-03")
def test_contexts_that_are_discarded_are_missed_by_all_processes(world, gw):
    world.one.commit({world.lease: [AddContext(context(), gw)]})
    edition = world.one.edition()
    world.other.discard_contexts()
    world.hear()
    assert world.one.contexts() == [] and world.one.edition() != edition


def test_contexts_come_back_as_they_were_written_oldest_first(world, gw):
    world.one.commit({world.lease: [AddContext(context(b"two"), gw), AddContext(context(), gw)]})
    changes = [RaiseCeiling(b"abc", 128), SetPlace(b"abc", "mqtt:11"), CountTime(5), RaiseCeiling(b"two", 32)]
    assert world.one.commit({world.lease: changes}) == frozenset()
    first, second = world.other.sessions(world.lease.shard)
    assert first == (dataclasses.replace(context(b"two"), lived_s=5), gw)
    wanted = dataclasses.replace(context(), sender_ceiling=128, place="mqtt:11", lived_s=5)
    assert second == (wanted, gw)


def test_changes_to_what_is_gone_are_told(world, gw):
    of_nobody = AddContext(context(b"one", "nobody"), fresh("nobody"))
    changes = [RaiseCeiling(b"xyz", 64), SetPlace(b"uvw", "p"), of_nobody, AddContext(context(), gw)]
    assert world.one.commit({world.lease: changes}) == {b"xyz", b"uvw", b"one"}
    assert [found.recipient_id for found in world.one.contexts()] == [b"abc"]


def test_a_context_that_replaces_others_ends_them_in_the_same_commit(world, gw):
    world.one.commit({world.lease: [AddContext(context(b"one"), gw)]})
    world.one.commit({world.lease: [AddContext(context(b"two"), gw, replaces=(b"one",))]})
    assert [found.recipient_id for found in world.one.contexts()] == [b"two"]
    world.one.commit({world.lease: [RemoveContext(b"two"), RemoveContext(b"none")]})
    assert world.one.contexts() == []


@pytest.mark.req("SEC-02")
def test_contexts_of_another_key_of_this_entity_end(world, gw):
    world.one.commit({world.lease: [AddContext(context(), gw)]})
    world.one.release(world.lease)
    world.one.acquire(b"\x02" * 32)
    assert world.one.contexts() == []


@pytest.mark.req("SEC-23")
async def test_who_lost_a_lease_writes_nothing_and_knows_it(world, gw):
    queue = CommitQueue(world.one)
    assert await queue.commit(world.lease, AddContext(context(), gw))
    taken = world.take_over()
    assert taken.token > world.lease.token
    with pytest.raises(LeaseLost, match="taken over"):
        await queue.commit(world.lease, RaiseCeiling(b"abc", 1024))
    assert world.lease.lost and not world.lease.valid
    assert world.other.contexts()[0].sender_ceiling == 64
    world.other.commit({taken: [RaiseCeiling(b"abc", 128)]})
    assert not taken.lost and world.other.contexts()[0].sender_ceiling == 128
    await queue.close()


# PostgreSQL alone


@pytest.fixture
def shared(postgres_url):
    emptied(postgres_url)
    world = PostgresWorld(postgres_url)
    yield world
    world.close()


def lease_of(world, shard):
    return Lease(
        dict(world.one._connection.execute("SELECT shard, token FROM shard").fetchall())[shard], 1 << 62, shard
    )


@pytest.mark.req("SEC-23")
async def test_one_lost_shard_ends_its_own_changes_only(shared):
    gw, other = fresh("gw"), fresh("other")
    for each in (gw, other):
        shared.one.bind(each, replace=False)
    neighbour = lease_of(shared, 8)
    shared.one._connection.execute("UPDATE shard SET token = token + 1, holder = 'p' WHERE shard = 7")
    queue = CommitQueue(shared.one)
    lost, kept = await asyncio.gather(
        queue.commit(shared.lease, AddContext(context(), gw)),
        queue.commit(neighbour, AddContext(context(b"xyz", "other"), other)),
        return_exceptions=True,
    )
    await queue.close()
    assert isinstance(lost, LeaseLost) and kept is True and queue.commits == 1
    assert shared.lease.lost and not neighbour.lost
    assert [found.entity_id for found in shared.one.contexts()] == ["other"]


@pytest.mark.req("SEC-23")
def test_no_process_claims_a_shard_while_a_write_under_its_token_is_not_committed(shared):
    with shared.one._transaction() as connection:
        from key_servers.cpns_server.postgres.sessions import _held

        assert _held(connection, [shared.lease]) == {shared.lease}
        shared.other._connection.execute("UPDATE shard SET expires = 0")
        found = shared.tables[1].round(lambda living: 64)
        assert SHARD not in found.tokens and len(found.tokens) == 63
    assert SHARD in shared.tables[1].round(lambda living: 64).tokens


def test_each_shard_has_its_contexts_and_a_board_that_came_another_way_has_the_newest_only(shared):
    board = fresh("lamp", "pne")
    shared.one.bind(board, replace=False)
    here, there = shared.lease, lease_of(shared, 8)
    shared.one.commit({here: [AddContext(context(b"abc", "lamp"), board)]})
    assert len(shared.one.contexts(7)) == 1 and shared.one.contexts(8) == []
    shared.one.commit({there: [AddContext(context(b"xyz", "lamp"), board)]})
    assert shared.one.contexts(7) == [] and [each.recipient_id for each in shared.one.contexts(8)] == [b"xyz"]


def test_a_recipient_id_that_another_process_has_given_too_ends_one_handshake_and_not_the_lot(shared):
    one, two = fresh("one"), fresh("two")
    for each in (one, two):
        shared.one.bind(each, replace=False)
    shared.one.commit({shared.lease: [AddContext(context(b"abc", "one"), one)]})
    changes = [AddContext(context(b"abc", "two"), two), AddContext(context(b"xyz", "two"), two)]
    assert shared.one.commit({lease_of(shared, 8): changes}) == {b"abc"}
    assert {each.recipient_id: each.entity_id for each in shared.one.contexts()} == {b"abc": "one", b"xyz": "two"}


def test_a_connection_that_breaks_is_trouble_until_a_probe(shared):
    gw = fresh("gw")
    shared.one.bind(gw, replace=False)
    shared.other._connection.execute(
        "SELECT pg_terminate_backend(%s::INTEGER)", (shared.one._connection.info.backend_pid,)
    ).fetchall()
    with pytest.raises(StoreError):
        shared.one.contexts()
    with pytest.raises(StoreError):
        shared.one.commit({shared.lease: [AddContext(context(), gw)]})
    assert shared.one.trouble and shared.one.stands(gw), "what is known is known"
    shared.one.probe()
    assert not shared.one.trouble and shared.one.contexts() == []


def test_two_processes_that_bind_one_key_or_name_at_once_bind_it_once(shared):
    pairs = [
        [credentials.of(name, "gateway", fresh("x").x) for name in ("same", "same")],
        [credentials.of(name, "gateway", fresh("x").x) for name in ("a", "b")],
    ]
    pairs[1][1] = credentials.of("b", "gateway", pairs[1][0].x)
    for pair in pairs:
        results = []

        def bind(store, credential, results=results):
            try:
                results.append(store.bind(credential, replace=False))
            except RegistrationRefused:
                results.append("refused")

        stores = (shared.one, shared.other)
        threads = [threading.Thread(target=bind, args=each) for each in zip(stores, pair, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, results)) == ["True", "refused"]


# The table of shards


def test_processes_share_the_shards_and_a_shard_is_free_when_it_is_released(shared):
    one, other = shared.tables
    found = other.round(lambda living: 64)
    assert (found.living, found.tokens) == (2, {})
    held = one.round(lambda living: 0).tokens
    leases = [Lease(held[shard], 0, shard) for shard in (3, 9)]
    one.release(leases)
    one.release(leases)  # the same once more changes nothing
    assert other.round(lambda living: 1).tokens.keys() < {3, 9}
    assert other.round(lambda living: 64).tokens.keys() == {3, 9}
    one.end()
    found = other.round(lambda living: 64)
    assert found.living == 1 and len(found.tokens) == 64


@pytest.mark.req("SEC-23")
def test_each_new_holder_of_a_shard_has_a_higher_token(shared):
    tokens = [shared.lease.token]
    for number in (1, 0, 1):
        shared.one._connection.execute("UPDATE shard SET expires = 0")
        tokens.append(shared._claimed(number).token)
    assert tokens == sorted(set(tokens))


@pytest.mark.req("SEC-23")
def test_a_clock_of_the_database_that_was_set_back_keeps_no_shard_for_ever_and_takes_none_from_the_living(
    shared, monkeypatch
):
    one, other = shared.tables
    year = 365 * 86_400_000
    for table in ("shard", "server_process"):
        shared.one._connection.execute(f"UPDATE {table} SET expires = expires + {year}")
    now = holder.boot_milliseconds()
    for seconds in range(0, 60, 5):
        monkeypatch.setattr(holder, "boot_milliseconds", lambda at=now + seconds * 1000: at)
        if seconds < 30:  # the holder lives until then
            assert len(one.round(lambda living: 0).tokens) == 64
            shared.one._connection.execute(f"UPDATE shard SET expires = expires + {year}")  # it is set back once more
        found = other.round(lambda living: 64)
        assert len(found.tokens) == (64 if seconds > 25 + LEASE_MS // 1000 else 0), seconds
    shared.one._connection.execute(f"UPDATE server_process SET expires = expires + {year}")
    assert other.round(lambda living: 64).living == 1, "who is gone is not among the living"


def test_a_process_that_renews_its_lease_during_the_round_of_another_is_among_the_living(postgres_url):
    from key_servers.cpns_server.postgres.connection import connect
    from key_servers.cpns_server.postgres.database import PostgresServerDatabase
    from key_servers.cpns_server.postgres.shards import PostgresShards, process_name

    emptied(postgres_url)
    PostgresServerDatabase(postgres_url).close()
    other = PostgresShards(partial(connect, postgres_url), process_name("other"))

    def connect_and_let_the_other_in():
        connection = connect(postgres_url)
        execute = connection.execute

        def execute_after_the_other(statement, *arguments):
            if "count(*) FROM server_process" in statement:
                time.sleep(0.01)  # the lease of the other counts from a later time than this transaction
                other.round(lambda living: 0)
            return execute(statement, *arguments)

        connection.execute = execute_after_the_other
        return connection

    one = PostgresShards(connect_and_let_the_other_in, process_name("one"))
    assert one.round(lambda living: 0).living == 2
    one.close()
    other.close()


def test_four_claimants_at_once_get_each_shard_once(postgres_url):
    from key_servers.cpns_server.postgres.connection import connect
    from key_servers.cpns_server.postgres.database import PostgresServerDatabase
    from key_servers.cpns_server.postgres.shards import PostgresShards, process_name

    emptied(postgres_url)
    PostgresServerDatabase(postgres_url).close()
    tables = [PostgresShards(partial(connect, postgres_url), process_name(secrets.token_hex(4))) for _ in range(4)]
    found = [[] for _ in tables]
    begin = threading.Barrier(4)

    def claim(number):
        begin.wait()
        for _ in range(8):
            found[number] = tables[number].round(lambda living: 2).tokens

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shards = [shard for each in found for shard in each]
    assert len(shards) == len(set(shards)) == 64
    for table in tables:
        table.close()
