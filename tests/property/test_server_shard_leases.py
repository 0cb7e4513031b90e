"""Leases of shards: whatever stops, fails or runs slow, two processes never use the sessions of one shard (SEC-23)."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_servers.cpns_server.shards.leases import (
    LEASE_MS,
    RENEW_EVERY_S,
    ShardLeases,
    share,
)
from message_plane.links.mqtt_topics import SHARDS
from tests.unit.shard_table import Table

ROUND_MS = int(RENEW_EVERY_S * 1000)


class Process:
    """One process with a clock of its own, which runs at `rate` times the speed of the database's."""

    def __init__(self, name, table, rate=1.0):
        self.name = name
        self.table = table
        self.rate = rate
        self.leases = ShardLeases()
        self.known = []  # every lease that it ever got: its sessions may still refer to one
        self.giving = []
        self.answer = None  # of a round that was sent and not read: (what was found, when it was sent)
        self.runs = True

    @property
    def clock(self):
        return int(self.table.now * self.rate) + 7_777_777

    def may_use(self, lease):
        return not lease.lost and self.clock < lease.valid_until_ms

    @property
    def usable(self):
        return {lease.shard for lease in self.known if self.may_use(lease)}

    def ask(self):
        sent = self.clock
        self.answer = self.table.round(self.name, self.leases.wanted), sent

    def read(self):
        if self.answer is not None:
            changes = self.leases.take(*self.answer)
            self.answer = None
            self.known += changes.adopted
            self.giving += changes.surplus
            for lease in changes.unreleased:
                self.table.release(self.name, lease)

    def drain(self):
        while self.giving:
            lease = self.giving.pop()
            self.leases.given_back(lease)
            self.table.release(self.name, lease)


def no_shard_has_two_users(processes):
    users = [shard for process in processes for shard in process.usable]
    assert len(users) == len(set(users))


def let_live(table, processes, rounds):
    for _ in range(rounds):
        for process in processes:
            process.ask()
            process.read()
            process.drain()
        no_shard_has_two_users(processes)
        table.now += ROUND_MS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "read", "drain", "lose the answer", "start anew"]), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.integers(1, 20_000) | st.sampled_from([ROUND_MS, LEASE_MS, LEASE_MS + 1])),
    ),
    max_size=120,
)
RATES = st.tuples(*[st.floats(0.91, 1.5)] * 3)


@pytest.mark.req("SEC-23")
@settings(max_examples=300, deadline=None)
@given(STEPS, RATES)
def test_two_processes_never_use_one_shard(steps, rates):
    """Each process asks, reads the answer and gives back whenever it comes to that, which is also how a stopped one
    behaves; answers are lost, processes begin anew, and clocks run at different speeds."""
    table = Table()
    processes = [Process(f"p{number}", table, rate) for number, rate in enumerate(rates)]
    starts = 0
    for what, number in steps:
        if what == "wait":
            table.now += number
        elif what == "start anew":
            starts += 1
            processes[number] = Process(f"p{number} again {starts}", table, rates[number])
        elif what == "lose the answer":
            processes[number].answer = None
        else:
            getattr(processes[number], what)()
        no_shard_has_two_users(processes)
    # left alone, they come to hold all shards, each its share
    let_live(table, processes, 8)
    assert set().union(*(process.usable for process in processes)) == set(range(SHARDS))
    assert max(len(process.usable) for process in processes) <= share(3)


@pytest.mark.req("SEC-23")
def test_a_clock_that_runs_slower_than_the_margin_is_what_the_margin_is_for():
    for rate, is_safe in ((0.91, True), (0.8, False)):
        table = Table()
        slow, other = Process("slow", table, rate), Process("other", table)
        slow.ask(), slow.read()
        table.now += LEASE_MS
        other.ask(), other.read()
        assert len(other.usable) == SHARDS
        assert bool(slow.usable) is not is_safe


@pytest.mark.req("SEC-23")
def test_a_lease_counts_from_when_the_round_was_sent_not_from_its_answer():
    table = Table()
    one, two = Process("one", table), Process("two", table)
    one.ask()
    table.now += LEASE_MS  # it is stopped before it reads the answer
    two.ask(), two.read()
    one.read()
    assert len(two.usable) == SHARDS and not one.usable


def test_one_process_has_everything_and_shares_it_with_those_that_come():
    table = Table()
    one, two, three = (Process(name, table) for name in ("one", "two", "three"))
    let_live(table, [one], 1)
    assert len(one.usable) == SHARDS
    let_live(table, [one, two], 4)
    assert (len(one.usable), len(two.usable)) == (32, 32)
    let_live(table, [one, two, three], 5)
    assert sorted(len(process.usable) for process in (one, two, three)) == [20, 22, 22]
    # the second is killed: its shards are the others' once its leases have ended
    let_live(table, [one, three], 5)
    assert (len(one.usable), len(three.usable)) == (32, 32)


def test_shards_that_are_given_back_at_the_end_are_free_at_once():
    table = Table()
    one, two = Process("one", table), Process("two", table)
    let_live(table, [one, two], 4)
    one.giving += one.leases.leave()
    one.drain()
    assert not one.usable and not one.leases.held
    del table.processes["one"]
    let_live(table, [two], 1)
    assert len(two.usable) == SHARDS


@pytest.mark.req("SEC-23")
def test_a_process_that_was_stopped_beyond_its_leases_knows_it_before_it_asks():
    table = Table()
    one, two = Process("one", table), Process("two", table)
    let_live(table, [one], 1)
    table.now += 10 * LEASE_MS
    assert not one.usable
    two.ask(), two.read()
    assert len(two.usable) == SHARDS
    one.ask()
    tokens = {lease.shard: lease.token for lease in one.leases.held}
    one.read()
    assert not one.usable and not one.leases.held
    assert all(lease.token > tokens[lease.shard] for lease in two.leases.held)


@pytest.mark.req("SEC-23")
def test_an_answer_that_comes_after_the_shard_was_given_back_does_not_bring_it_back():
    table = Table()
    one = Process("one", table)
    let_live(table, [one], 1)
    one.ask()  # it is answered before the release, and read after it
    one.giving += one.leases.leave()
    one.drain()
    two = Process("two", table)
    two.ask(), two.read()
    one.read()
    no_shard_has_two_users([one, two])
    assert not one.usable


def test_a_claim_whose_answer_was_lost_is_found_in_the_next_round():
    table = Table()
    one = Process("one", table)
    one.ask()
    one.answer = None
    assert not one.leases.held
    one.ask(), one.read()
    assert len(one.usable) == SHARDS


def test_shares_add_up_to_all_shards_at_least():
    for living in random.sample(range(1, 200), 50):
        assert share(living) * living >= SHARDS
        assert (share(living) - 1) * living < SHARDS
