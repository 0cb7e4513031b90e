"""The session store: registrations, what survives a restart, and the lease."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from message_plane import credentials, holder
from message_plane.commit_queue import CommitQueue
from message_plane.errors import LeaseHeld, LeaseLost, RegistrationRefused, StoreError
from message_plane.identity import OwnIdentity
from message_plane.lease import LEASE_MS
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, RaiseCeiling, RemoveContext, SetPlace, StoredContext
from private_store.migrations import scripts

ROOT = Path(__file__).parents[2]
OWN_X = b"\x01" * 32
SECRET = bytes(range(100, 116))


def fresh(entity_id, role="pne"):
    return OwnIdentity(entity_id, role, ec.generate_private_key(ec.SECP256R1())).credential


def context(recipient_id=b"abc", entity_id="lamp", ceiling=64, established=1000):
    place = "udp:10.0.0.1:9"
    return StoredContext(recipient_id, b"\x01\x02", entity_id, SECRET, b"saltsalt", established, ceiling, place)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path):
    store = SessionFile(path)
    yield store
    store.close()


@pytest.fixture
def lamp(store):
    credential = fresh("lamp")
    store.register(credential)
    return credential


# Registration


def test_a_registered_credential_is_found_by_name_and_by_hint(store, lamp):
    assert store.credential("lamp") == lamp
    assert store.candidates(lamp.kid) == [lamp]
    assert store.credential("lump") is None
    assert store.candidates(bytes(8)) == []


@pytest.mark.req("SEC-16")
def test_a_key_bound_to_one_entity_is_refused_for_another(store, lamp):
    same_key = credentials.of("stolen-name", "pne", lamp.x)
    with pytest.raises(RegistrationRefused, match="registered as 'lamp' already"):
        store.register(same_key)
    assert store.registered() == [lamp]


@pytest.mark.req("SEC-16")
def test_two_entities_with_the_same_kid_are_both_candidates(store, monkeypatch):
    monkeypatch.setattr(credentials, "kid_of", lambda x: b"same-kid")
    one, two = fresh("one"), fresh("two")
    store.register(one)
    store.register(two)
    assert store.candidates(b"same-kid") == [one, two]


@pytest.mark.req("SEC-32")
def test_a_new_key_for_an_entity_ends_the_contexts_of_the_old_one(store, lamp):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(), lamp)]})
    edition = store.edition()
    store.register(lamp)
    assert len(store.contexts()) == 1, "the same credential again changes nothing"
    assert store.edition() == edition
    store.register(fresh("lamp"))
    assert store.contexts() == []
    edition, before = store.edition(), edition
    assert edition != before
    store.bind(fresh("lamp"), replace=True)
    assert store.edition() != edition


@pytest.mark.req("SEC-02")
def test_contexts_that_are_discarded_are_missed_by_whoever_goes_by_them(store, lamp):
    """A restore in the running process: the sessions in memory end too."""
    store.commit({store.acquire(OWN_X): [AddContext(context(), lamp)]})
    edition = store.edition()
    store.discard_contexts()
    assert store.contexts() == [] and store.edition() != edition


@pytest.mark.req("SEC-32")
def test_who_is_unregistered_has_no_context_left(store, lamp):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(), lamp)]})
    assert store.unregister("lamp")
    assert not store.unregister("lamp")
    assert store.contexts() == []


# The file


def test_the_file_is_its_owners_only_and_so_are_those_beside_it(store, lamp, path):
    for file in path.parent.glob("sessions.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_file_that_others_can_read_is_refused_with_the_next_step(path):
    SessionFile(path).close()
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        SessionFile(path)


def test_a_damaged_file_is_refused(path):
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    path.chmod(0o600)
    with pytest.raises(StoreError):
        SessionFile(path)


def test_a_file_of_a_newer_version_is_refused(path):
    store = SessionFile(path)
    store._database.execute("PRAGMA user_version = 999")
    store.close()
    with pytest.raises(StoreError, match="newer"):
        SessionFile(path)


async def test_a_full_disk_is_told_to_all_who_wait_and_ends_nothing(store, lamp):
    lease = store.acquire(OWN_X)
    queue = CommitQueue(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        waiting = [queue.commit(lease, AddContext(context(bytes([i])), lamp)) for i in range(3)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [type(result) for result in results] == [StoreError] * 3
    assert store.contexts() == []
    assert await queue.commit(lease, AddContext(context(), lamp))
    await queue.close()


async def test_a_fault_in_the_store_is_told_to_who_waits_and_ends_nothing(store, lamp, monkeypatch):
    lease = store.acquire(OWN_X)
    queue = CommitQueue(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", lambda changes: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(queue.commit(lease, AddContext(context(), lamp)), 5)
    assert await asyncio.wait_for(queue.commit(lease, AddContext(context(), lamp)), 5)
    await queue.close()


def test_a_store_that_cannot_be_read_any_more_raises_its_own_error(store):
    store._view.close()
    for look in (lambda: store.credential("lamp"), lambda: store.candidates(b""), store.registered, store.contexts):
        with pytest.raises(StoreError):
            look()
    store._view = store._file.connect()


def test_two_that_create_the_same_file_at_once_both_get_it(path):
    errors = []

    def create():
        try:
            SessionFile(path).close()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.req("SEC-29")
@pytest.mark.parametrize("how", ["change", "unregister", "discard"])
def test_the_keys_of_an_ended_context_are_in_no_file_any_more(store, lamp, path, how):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(), lamp)]})
    everything = b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))
    assert SECRET in everything, "the test can see keys that are there"
    if how == "change":
        store.commit({lease: [RemoveContext(b"abc")]})
    elif how == "unregister":
        store.unregister("lamp")
    else:
        store.discard_contexts()
    assert store.contexts() == []
    everything = b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))
    assert SECRET not in everything


def test_secrets_do_not_show_in_reprs():
    for shown in (context(), AddContext(context(), fresh("lamp"))):
        assert SECRET.hex() not in repr(shown) and repr(SECRET) not in repr(shown)


# Contexts


def test_contexts_come_back_as_they_were_written(store, lamp, path):
    lease = store.acquire(OWN_X)
    store.commit(
        {lease: [AddContext(context(), lamp), RaiseCeiling(b"abc", 128), SetPlace(b"abc", "udp:10.0.0.7:5683")]}
    )
    store.close()
    again = SessionFile(path)
    (found,) = again.contexts()
    again.close()
    assert found == StoredContext(b"abc", b"\x01\x02", "lamp", SECRET, b"saltsalt", 1000, 128, "udp:10.0.0.7:5683")


HOST_AND_PORT = {
    b"1": ("192.168.1.10", 5683, "udp:192.168.1.10:5683"),
    b"2": ("fe80::1", 40001, "udp:[fe80::1]:40001"),
    b"3": (None, None, None),
}


def test_a_file_that_names_host_and_port_is_taken_over_with_places(path):
    """As stores were written while UDP was the only link: sessions go on, and peers are looked for where they were."""
    lamp = fresh("lamp")
    path.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(path)) as old:
        for script in scripts("message_plane.migrations")[:4]:
            old.executescript(script)
        old.execute("INSERT INTO credential VALUES (?, ?, ?, ?, ?, 0)", ("lamp", "pne", lamp.x, lamp.ccs, lamp.kid))
        for recipient_id, (host, port, _) in HOST_AND_PORT.items():
            old.execute(
                "INSERT INTO oscore_context VALUES (?, ?, 'lamp', ?, ?, ?, 1000, 128, ?, ?, 77)",
                (recipient_id, b"de", lamp.x, SECRET, b"saltsalt", host, port),
            )
        old.execute("PRAGMA user_version = 4")
        old.commit()
    with contextlib.closing(SessionFile(path)) as store:
        assert store.contexts() == [
            StoredContext(recipient_id, b"de", "lamp", SECRET, b"saltsalt", 1000, 128, place, 77)
            for recipient_id, (_, _, place) in HOST_AND_PORT.items()
        ]
        store.unregister("lamp")
        assert store.contexts() == []
    assert SECRET not in b"".join(file.read_bytes() for file in path.parent.glob("sessions.db*"))


@pytest.mark.req("SEC-22")
def test_a_ceiling_never_comes_down(store, lamp):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(ceiling=256), lamp), RaiseCeiling(b"abc", 128)]})
    assert store.contexts()[0].sender_ceiling == 256


def test_changes_to_what_is_gone_are_told(store, lamp):
    lease = store.acquire(OWN_X)
    of_nobody = AddContext(context(b"one", "nobody"), fresh("nobody"))
    gone = store.commit({lease: [RaiseCeiling(b"xyz", 64), of_nobody, AddContext(context(), lamp)]})
    assert gone == {b"xyz", b"one"}
    assert [found.recipient_id for found in store.contexts()] == [b"abc"]


def test_a_context_that_replaces_others_ends_them_in_the_same_commit(store, lamp):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(b"one"), lamp)]})
    store.commit({lease: [AddContext(context(b"two"), lamp, replaces=(b"one",))]})
    assert [found.recipient_id for found in store.contexts()] == [b"two"]


@pytest.mark.req("SEC-32")
def test_contexts_made_under_another_own_key_end(store, lamp):
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(context(), lamp)]})
    store.release(lease)
    store.release(store.acquire(OWN_X))
    assert len(store.contexts()) == 1
    store.acquire(b"\x02" * 32)
    assert store.contexts() == []


# The lease


@pytest.mark.req("SEC-23")
def test_a_second_process_does_not_get_the_lease_of_a_living_one(store, path):
    lease = store.acquire(OWN_X)
    lease.require()
    second = SessionFile(path)
    with pytest.raises(LeaseHeld):
        second.acquire(OWN_X)
    store.release(lease)
    second.release(second.acquire(OWN_X))
    second.close()


@pytest.fixture
def lease_passes(monkeypatch):
    """To be called when so much time is to have passed that a lease lapses."""
    now = holder.boot_milliseconds()
    return lambda: monkeypatch.setattr(holder, "boot_milliseconds", lambda: now + 2 * LEASE_MS)


@pytest.mark.req("SEC-23")
async def test_who_lost_the_lease_writes_nothing_and_knows_it(store, lamp, path, lease_passes):
    first = store.acquire(OWN_X)
    store.commit({first: [AddContext(context(), lamp)]})
    assert first.valid
    lease_passes()
    assert not first.valid
    with pytest.raises(LeaseLost):
        first.require()
    second_store = SessionFile(path)
    second = second_store.acquire(OWN_X)
    assert second.token > first.token
    queue = CommitQueue(store)
    with pytest.raises(LeaseLost, match="taken over"):
        await queue.commit(first, RaiseCeiling(b"abc", 1024))
    assert store.contexts()[0].sender_ceiling == 64
    await queue.close()
    store.release(first)
    second_store.commit({second: ()})
    second_store.close()


@pytest.mark.req("SEC-23")
def test_a_lapsed_lease_that_nobody_took_is_renewed(store, lease_passes):
    lease = store.acquire(OWN_X)
    lease_passes()
    assert not lease.valid
    store.commit({lease: ()})
    assert lease.valid


HOLD = """
import sys, time
from message_plane.lease import LEASE_MS, Leases
from message_plane.session_file import SessionFile
store = SessionFile(sys.argv[1])
store.acquire(bytes([1]) * 32)
print("held", flush=True)
time.sleep(60)
"""


def hold(path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


@pytest.mark.req("SEC-23")
def test_the_lease_of_a_killed_process_is_free_at_once(store, path):
    child = hold(path)
    try:
        with pytest.raises(LeaseHeld):
            store.acquire(OWN_X)
    finally:
        child.kill()
        child.communicate()
    store.acquire(OWN_X)


@pytest.mark.req("SEC-23")
def test_a_stopped_process_is_not_taken_for_a_dead_one(store, path):
    child = hold(path)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(LeaseHeld):
            store.acquire(OWN_X)
    finally:
        child.kill()
        child.communicate()


@pytest.mark.req("SEC-23")
def test_a_process_is_known_by_boot_and_start_time_not_by_its_number_alone():
    me = holder.this_process()
    boot, namespace, pid, started = me.split("/")
    assert holder.same_boot(me) and not holder.certainly_gone(me)
    assert holder.certainly_gone(f"{boot}/{namespace}/{pid}/{int(started) - 1}"), "the number was given out again"
    assert holder.certainly_gone(f"another-boot/{namespace}/{pid}/{started}")
    assert not holder.certainly_gone(f"{boot}/pid:[1]/99999999/{started}"), "another container cannot be seen"
    assert not holder.same_boot(f"another-boot/{namespace}/{pid}/{started}")


# Sender numbers and kill -9

USE_NUMBERS = """
import asyncio, sys
from message_plane.commit_queue import CommitQueue
from message_plane.incidents import Incidents
from message_plane.lease import LEASE_MS, Leases
from message_plane.session_file import SessionFile
from message_plane.sessions import Sessions
from collections import Counter

async def main():
    store = SessionFile(sys.argv[1])
    lease = store.acquire(bytes([1]) * 32)
    queue = CommitQueue(store)
    sessions = Sessions("gateway", store, queue, Leases(), Incidents(Counter()))
    await sessions.adopt(lease)
    session = sessions.to_send("lamp")
    while True:
        await sessions.numbers_for(session)
        sys.stdout.write("%d\\n" % session.new_sequence_number())
        sys.stdout.flush()

asyncio.run(main())
"""


@pytest.mark.req("SEC-22", "SEC-23")
def test_no_sender_number_is_used_twice_by_a_process_killed_at_any_moment(store, lamp, path):
    store.commit({store.acquire(OWN_X): [AddContext(context(established=int(time.time())), lamp)]})
    store._database.execute("UPDATE lease SET holder = NULL, expires = 0")
    used = []
    for round_ in range(8):
        with open(path.parent / "numbers", "w+") as written:
            child = subprocess.Popen([sys.executable, "-c", USE_NUMBERS, str(path)], cwd=ROOT, stdout=written)
            began = time.monotonic()
            while not written.seek(0, os.SEEK_END) and time.monotonic() - began < 60:
                time.sleep(0.01)
            time.sleep(0.003 * round_**2)
            child.kill()
            child.wait()
            written.seek(0)
            lines = written.read().split("\n")
            used += [int(line) for line in lines[:-1]]
            if lines[-1]:  # the number being written down when the end came was used too
                used.append(int(lines[-1]))
    assert len(used) >= 8
    assert len(set(used)) == len(used)
    assert min(used) >= 64, "numbers below the stored ceiling belong to the past"
    assert max(used) < store.contexts()[0].sender_ceiling
