"""No sender number is used before the ceiling above it is on the disk, however many requests want one (SEC-22)."""

import asyncio
import time
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from message_plane.commit_queue import CommitQueue
from message_plane.identity import OwnIdentity
from message_plane.incidents import Incidents
from message_plane.lease import Leases
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, RaiseCeiling, StoredContext
from message_plane.sessions import Sessions

OWN_X = b"\x01" * 32


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
    secret = bytes(16), b"saltsalt"
    stored = StoredContext(b"abc", b"\x01\x02", "lamp", *secret, int(time.time()), 64)
    store.commit({lease: [AddContext(stored, lamp)]})
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
    waiting = [asyncio.ensure_future(sessions.numbers_for(session))]
    await asyncio.sleep(0.01)
    waiting += [asyncio.ensure_future(sessions.numbers_for(session)) for _ in range(5)]  # while the disk writes
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    assert session.needs_numbers and store.contexts()[0].sender_ceiling == 64
    assert disk.asked == [RaiseCeiling(b"abc", 128)]
    disk.go_on.set()
    await asyncio.gather(*waiting)
    assert store.contexts()[0].sender_ceiling == 128
    assert [session.new_sequence_number() for _ in range(64)] == list(range(64, 128))
    assert session.needs_numbers
