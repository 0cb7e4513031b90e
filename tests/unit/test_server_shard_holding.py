"""A process that holds shards: its parts hear of every change, and no shard has two users, whatever fails (SEC-23)."""

import asyncio

import pytest

from key_servers.cpns_server.shards import holding
from key_servers.cpns_server.shards.holding import ShardHolder
from key_servers.cpns_server.shards.leases import LEASE_MS, RENEW_EVERY_S
from key_servers.errors import StoreFailed, StoreInUse
from message_plane import holder
from message_plane.links.mqtt_topics import SHARDS
from tests.unit.shard_table import Table

LEASE_S = LEASE_MS / 1000


@pytest.fixture
async def table(monkeypatch):
    """The database. Its clock and those of the processes are the loop's."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(holder, "boot_milliseconds", lambda: int(loop.time() * 1000))
    return Table()


class Connection:
    """One process's view of the table. `fails`: the database cannot be reached."""

    def __init__(self, table, name):
        self.table = table
        self.name = name
        self.fails = False
        self.closed = False

    def _reach(self):
        self.table.now = holder.boot_milliseconds()
        if self.fails:
            raise StoreFailed("The database is away.")

    def round(self, wanted):
        self._reach()
        return self.table.round(self.name, wanted)

    def release(self, leases):
        self._reach()
        for lease in leases:
            self.table.release(self.name, lease)

    def end(self):
        self._reach()
        self.table.end(self.name)

    def close(self):
        self.closed = True


class Part:
    """A part that uses shards. `log` has what all parts of a process were told, in order."""

    def __init__(self, name, log):
        self.name = name
        self.log = log
        self.uses = set()
        self.refuses = False

    async def adopt(self, leases):
        self.log.append((self.name, "adopts", len(leases)))
        if self.refuses:
            raise StoreFailed("The disk is full.")
        assert self.uses.isdisjoint(leases)
        self.uses.update(leases)

    async def let_go(self, leases):
        self.log.append((self.name, "lets go", len(leases)))
        await asyncio.sleep(0.1)
        self.uses.difference_update(leases)


class Process:
    def __init__(self, table, name, **options):
        self.connection = Connection(table, name)
        self.log = []
        self.parts = [Part("endpoint", self.log), Part("courier", self.log)]
        self.shards = ShardHolder(self.connection, **options)

    async def open(self):
        await self.shards.open(self.parts[:1], self.parts[1])
        return self

    @property
    def usable(self):
        """The shards for which a part would send something now."""
        return {lease.shard for part in self.parts for lease in part.uses if lease.valid}


async def watched(processes, seconds):
    """Let time pass; at no moment has a shard two users."""
    for _ in range(int(seconds * 10)):
        users = [shard for process in processes for shard in process.usable]
        assert len(users) == len(set(users))
        await asyncio.sleep(0.1)


@pytest.mark.req("SEC-23")
async def test_processes_share_shards_as_they_come_and_go(table):
    one = await Process(table, "one").open()
    assert one.usable == set(range(SHARDS)) == one.shards.in_use and one.shards.usable == SHARDS
    assert one.log == [("endpoint", "adopts", 64), ("courier", "adopts", 64)]
    two = await Process(table, "two").open()
    assert two.usable == set()
    await watched([one, two], 3 * RENEW_EVERY_S)
    assert (len(one.usable), len(two.usable)) == (32, 32)
    assert one.log[2:] == [("courier", "lets go", 32), ("endpoint", "lets go", 32)]
    assert all(one.shards.holds(shard) != two.shards.holds(shard) for shard in range(SHARDS))
    await one.shards.close()
    assert one.usable == set() and one.connection.closed
    two.shards.wake()  # as a notification does
    await watched([one, two], 1)
    assert two.usable == set(range(SHARDS))
    await two.shards.close()
    assert all(table.is_free(shard) for shard in range(SHARDS))


async def test_work_for_a_shard_begins_when_its_ways_are_open_and_ends_before_they_are_closed(table):
    one = Process(table, "one")
    way, work = one.parts
    seen = []

    async def look(leases):
        await asyncio.sleep(0.1)
        seen.append(one.shards.holds(7))

    way.adopt = way.let_go = work.let_go = look
    await one.open()
    assert one.shards.holds(7) and work.uses
    await one.shards.close()
    assert seen == [False, False, False]


@pytest.mark.req("SEC-23")
async def test_a_process_that_cannot_reach_the_database_stops_before_another_begins(table):
    one, two = await Process(table, "one").open(), Process(table, "two")
    one.connection.fails = True
    await two.open()
    await watched([one, two], LEASE_S + 2 * RENEW_EVERY_S)
    assert one.usable == set() and two.usable == set(range(SHARDS))
    assert one.shards.holds(5), "its parts are told when it hears that the shard is lost"
    one.connection.fails = False
    await watched([one, two], 4 * RENEW_EVERY_S)
    assert not any(part.uses & {lease for lease in part.uses if lease.lost} for part in one.parts)
    assert (len(one.usable), len(two.usable)) == (32, 32)
    for process in (one, two):
        await process.shards.close()


async def test_leases_that_lapsed_and_that_nobody_took_go_on_without_a_change(table):
    one = await Process(table, "one").open()
    one.connection.fails = True
    await asyncio.sleep(60)
    assert one.usable == set()
    one.connection.fails = False
    await asyncio.sleep(2)
    assert one.usable == set(range(SHARDS)) and len(one.log) == 2
    await one.shards.close()


@pytest.mark.req("SEC-23")
async def test_the_database_refuses_a_write_and_the_parts_hear_of_it_at_once(table):
    one = await Process(table, "one").open()
    table.holders[7] = ("another", 99, table.now + LEASE_MS)
    one.shards.lost(7)
    assert 7 not in one.usable and not one.shards.holds(7)
    await asyncio.sleep(0.5)
    assert one.log[2:] == [("courier", "lets go", 1), ("endpoint", "lets go", 1)]
    assert 7 not in one.shards.tokens() and len(one.shards.tokens()) == 63
    assert table.holders[7][0] == "another", "what is another's is not released"
    await one.shards.close()


async def test_shards_that_a_part_cannot_use_are_left_to_others(table):
    one = Process(table, "one")
    one.parts[1].refuses = True
    await one.open()
    assert one.usable == set() and one.log[-2:] == [("courier", "lets go", 64), ("endpoint", "lets go", 64)]
    assert all(table.is_free(shard) for shard in range(SHARDS))
    one.parts[1].refuses = False
    await asyncio.sleep(2 * RENEW_EVERY_S)
    assert one.usable == set(range(SHARDS))
    await one.shards.close()


async def test_a_part_that_fails_to_stop_does_not_keep_the_others_from_it(table):
    one = await Process(table, "one").open()

    async def fail(leases):
        raise RuntimeError("a fault")

    one.parts[1].let_go = fail
    await one.shards.close()
    assert not one.parts[0].uses and all(table.is_free(shard) for shard in range(SHARDS))


async def test_a_process_that_needs_all_shards_begins_when_it_has_them_or_not_at_all(table):
    one = await Process(table, "one").open()
    alone = Process(table, "alone", all_of_them=True)
    with pytest.raises(StoreInUse, match="UDP"):
        await alone.open()
    await alone.shards.close()
    await asyncio.sleep(2 * RENEW_EVERY_S)
    assert one.usable == set(range(SHARDS))
    one.connection.fails = True  # as if it was killed
    again = await Process(table, "again", all_of_them=True).open()
    assert again.usable == set(range(SHARDS))
    other = await Process(table, "other").open()
    await asyncio.sleep(3 * RENEW_EVERY_S)
    assert again.usable == set(range(SHARDS)) and other.usable == set(), "it never shares"
    for process in (other, again, one):
        await process.shards.close()


def test_a_process_waits_for_those_that_are_gone_longer_than_their_leases_last():
    assert holding.ALL_AT_START_S > LEASE_S
