"""No sender number is used before the ceiling above it is on the disk, however many requests want one (SEC-22)."""

import asyncio
import time
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from message_plane import tuning
from message_plane.commit_queue import CommitQueue
from message_plane.identity import OwnIdentity
from message_plane.incidents import Incidents
from message_plane.lease import Leases
from message_plane.session import Session
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, RaiseCeiling, StoredContext
from message_plane.sessions import Sessions

OWN_X = b"\x01" * 32


def stored(ceiling=64):
    return StoredContext(b"abc", b"\x01\x02", "lamp", bytes(16), b"saltsalt", int(time.time()), ceiling)


class SlowDisk(CommitQueue):
    """Commits when it is told to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.go_on = asyncio.Event()
        self.asked = []

    async def commit(self, lease, change):
        self.asked.append(change)
        await self.go_on.wait()
        return await super().commit(lease, change)


@pytest.fixture
async def slow(tmp_path):
    store = SessionFile(tmp_path / "sessions.db")
    lamp = OwnIdentity("lamp", "pne", ec.generate_private_key(ec.SECP256R1())).credential
    store.register(lamp)
    lease = store.acquire(OWN_X)
    store.commit({lease: [AddContext(stored(), lamp)]})
    disk = SlowDisk(store)
    sessions = Sessions("gateway", store, disk, Leases(), Incidents(Counter()))
    await sessions.adopt(lease)
    yield store, disk, sessions
    disk.go_on.set()
    await sessions.close()
    await disk.close()
    store.close()


@pytest.mark.req("SEC-22")
async def test_requests_at_once_wait_for_one_reservation_and_use_its_numbers_after_the_commit_only(slow):
    store, disk, sessions = slow
    session = sessions.to_send("lamp")
    first = session.sender_sequence_number
    waiting = [asyncio.ensure_future(sessions.numbers_for(session))]
    await asyncio.sleep(0.01)
    waiting += [asyncio.ensure_future(sessions.numbers_for(session)) for _ in range(5)]  # while the disk writes
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    assert session.needs_numbers and store.contexts()[0].sender_ceiling == 64
    assert disk.asked == [RaiseCeiling(b"abc", first + 64)]
    disk.go_on.set()
    await asyncio.gather(*waiting)
    assert store.contexts()[0].sender_ceiling == first + 64
    assert [session.new_sequence_number() for _ in range(64)] == list(range(first, first + 64))
    assert session.needs_numbers


@pytest.mark.req("SEC-02", "SEC-22")
async def test_processes_that_begin_with_copies_of_one_store_go_on_at_numbers_of_their_own(slow):
    _, _, sessions = slow
    loaded = sessions.to_send("lamp")
    first = [_session(loaded).sender_sequence_number for _ in range(64)]
    assert min(first) >= 64 and max(first) < 64 + tuning.NUMBERS_SKIPPED
    assert len(set(first)) > 48 and max(first) - min(first) > tuning.NUMBERS_SKIPPED // 2
    assert _session(loaded).needs_numbers  # none of the numbers that were left out is used later
    assert _session(loaded, echo=None, ceiling=0).sender_sequence_number == 0  # a new context has no copy


def _session(like, echo=bytes(8), ceiling=64):
    """A session as another process would make it."""
    return Session(stored(ceiling), like.peer, like.lease, credential=like.credential, stands=lambda _: True, echo=echo)
