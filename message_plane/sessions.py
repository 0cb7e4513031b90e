"""All sessions of an endpoint, found by kid for incoming messages and by entity for outgoing ones.

An entity has at most one live session and one candidate. A candidate from a new handshake replaces the live session
when a message on it has verified. Until then both can be used.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.commit_queue import CommitQueue
from message_plane.credentials import RESPONDERS_OF
from message_plane.edhoc import C_I_LEN, C_R_LEN, LABEL_MASTER_SALT, LABEL_MASTER_SECRET, Established
from message_plane.errors import NoSession
from message_plane.incidents import Incidents
from message_plane.lease import Lease, Leases
from message_plane.links.link import Address
from message_plane.session import Peer, Session
from message_plane.session_store import (
    AddContext,
    CountTime,
    RemoveContext,
    SessionStore,
    SetPlace,
    StoredContext,
)
from message_plane.single_flight import SingleFlight

ECHO_LEN = 8
_RENEWALS = 3  # in a row: a lease that lapses while it is renewed is on a medium that is too slow to use


class Heard(NamedTuple):
    """The last message of a peer that verified: `age_s` seconds ago, from `place` (`links.link.Address.place`)."""

    age_s: float
    place: str


class Contact(NamedTuple):
    """The contact with a registered entity. `heard` is None if nothing of it has verified in this process."""

    session: bool
    heard: Heard | None


_NO_CONTACT = Contact(session=False, heard=None)


class Sessions:
    """The table of sessions. All changes that must survive a restart go through the commit queue."""

    def __init__(
        self, own_role: str, store: SessionStore, queue: CommitQueue, leases: Leases, incidents: Incidents
    ) -> None:
        self._own_role = own_role
        self._store = store
        self._queue = queue
        self._leases = leases
        self._incidents = incidents
        self._by_recipient_id: dict[bytes, Session] = {}
        self._live: dict[str, Session] = {}
        self._candidates: dict[str, Session] = {}
        self._provisional: dict[bytes, Session] = {}  # by recipient ID, the oldest first
        self._moved: set[Session] = set()
        self._counted_at = monotonic()
        self._promotions = SingleFlight[bool]()
        self._reservations = SingleFlight[None]()
        self._renewals = SingleFlight[None]()

    async def adopt(self, lease: Lease) -> None:
        """Load the sessions of a lease that this process has acquired. They can be used when this returns.

        They are loaded oldest first, so that of two with one entity the newer is the candidate. Raises StoreError.
        """
        for stored, credential in await asyncio.to_thread(self._store.sessions, lease.shard):
            peer = Peer(credential.entity_id, credential.role, session=stored.recipient_id)
            session = Session(
                stored,
                peer,
                lease,
                credential=credential,
                stands=self._store.stands,
                echo=secrets.token_bytes(ECHO_LEN),
            )
            self._by_recipient_id[session.recipient_id] = session
            (self._candidates if peer.entity_id in self._live else self._live)[peer.entity_id] = session
        self._leases.add(lease)

    async def let_go(self, lease: Lease) -> None:
        """Forget the sessions of a lease that was lost or is to be given back; their contexts stay in the store.

        When this returns, what was to be stored about them is stored, or can not be any more.
        """
        self._leases.remove(lease)
        for session in [each for each in self._by_recipient_id.values() if each.lease is lease]:
            self._end(session)
        await self._queue.finish()

    async def close(self) -> None:
        """Cancel the commits that callers wait for."""
        await self._promotions.close()
        await self._reservations.close()
        await self._renewals.close()

    # The lease

    @property
    def may_send(self) -> bool:
        """False while all leases have lapsed. No request is accepted then, as it could not be answered (SEC-23)."""
        return self._leases.any_valid

    async def hold(self, lease: Lease) -> None:
        """Renew a lease that has lapsed because this process did not run for so long, so that its sessions can be used.

        The renewal finds out whether another process has taken the lease in the meantime; nothing is sent or accepted
        before that is known (SEC-23). Raises LeaseLost, StoreError.
        """
        for _ in range(_RENEWALS):
            if lease.valid or not lease.renewable:
                break
            self._incidents.count("leases_lapsed")
            await self._renewals.run(lease.token, lambda: self._queue.renew(lease))
        lease.require()

    # Looking up

    def by_recipient_id(self, recipient_id: bytes) -> Session | None:
        """Return the session whose peer sends this kid, None if there is none or it is worn out.

        The caller need not check `over`, as `Session.unprotect` does, but whether its lease is valid.
        """
        session = self._by_recipient_id.get(recipient_id)
        return None if session is None or session.worn_out(monotonic()) else session

    def to_send(self, entity_id: str) -> Session | None:
        """Return the session to send on, None if there is none.

        It is the candidate if this end has initiated it, and has to confirm it by a message, otherwise the live one.
        Raises StoreError.
        """
        candidate = self._candidates.get(entity_id)
        if candidate is not None and candidate.peer.role in RESPONDERS_OF[self._own_role]:
            session: Session | None = candidate
        else:
            session = self._live.get(entity_id)
        return None if session is None or session.over or session.worn_out(monotonic()) else session

    def newest(self, entity_id: str) -> Session | None:
        """Return the session of the newest handshake with the registered `entity_id`, None if there is none.

        Raises StoreError.
        """
        for table in (self._candidates, self._live):
            session = table.get(entity_id)
            if session is not None and not session.over:
                return session
        return None

    def of(self, peer: Peer) -> Session | None:
        """Return the session on which `peer` has sent its request, None if it is over. Raises StoreError."""
        session = self._by_recipient_id.get(peer.session)
        return None if session is None or session.over else session

    def entities(self) -> set[str]:
        """Return the entity IDs that have a live session or a candidate. Raises StoreError."""
        both = (*self._live.values(), *self._candidates.values())
        return {session.entity_id for session in both if not session.over}

    def last_heard(self, entity_id: str) -> Heard | None:
        """Return when and where a message of `entity_id` verified last in this process, on a session that is not over.

        Returns None if there was none. Raises StoreError.
        """
        both = (self._candidates.get(entity_id), self._live.get(entity_id))
        return _last_heard([each for each in both if each is not None and not each.over], monotonic())

    def contacts(self, role: str) -> dict[str, Contact]:
        """Return the contact with each registered entity of this role, by entity ID.

        The store is asked once for all of them. Raises StoreError.
        """
        now, found = monotonic(), {}
        for entity_id, x in self._store.registered_keys(role).items():
            both = (self._candidates.get(entity_id), self._live.get(entity_id))
            usable = [
                each
                for each in both
                if each is not None and not each.ended and each.credential.x == x and each.credential.role == role
            ]
            found[entity_id] = Contact(bool(usable), _last_heard(usable, now)) if usable else _NO_CONTACT
        return found

    def unused_id(self, length: int, taken: Callable[[bytes], bool] = lambda _: False) -> bytes:
        """Return a random recipient ID that no session has and for which `taken` returns False.

        `length` is that of C_I or C_R, in octets. Raises ValueError for others.
        """
        if length not in (C_I_LEN, C_R_LEN):
            raise ValueError("length of C_I or C_R wanted")
        while True:
            recipient_id = secrets.token_bytes(length)
            if recipient_id not in self._by_recipient_id and not taken(recipient_id):
                return recipient_id

    # Beginning

    def add_as_responder(self, established: Established, address: Address) -> None:
        """Add the session of a handshake that the peer has initiated. It is stored when a request on it has verified.

        A provisional peer always gets a place: if there is none, the oldest session from its address ends, or the
        oldest of all. There are enough places that each board has the time it needs, even at the highest rate of
        handshakes that are computed (SEC-35). Raises LeaseLost if another process has the sessions of that shard.
        """
        session = self._session(established, address)
        session.heard = address
        if not established.provisional:
            self._set_candidate(session)
            address.link.prefer(address)
            return
        neighbours = [
            other
            for other in self._provisional.values()
            if other.heard is not None and other.heard.counted_as == address.counted_as
        ]
        if len(neighbours) >= tuning.PROVISIONAL_PER_ADDRESS:
            self._end(neighbours[0])
        elif len(self._provisional) >= tuning.PROVISIONAL_MAX:
            self._end(next(iter(self._provisional.values())))
        self._provisional[session.recipient_id] = session
        self._by_recipient_id[session.recipient_id] = session

    async def add_as_initiator(self, established: Established, address: Address) -> Session:
        """Add and return the session of a handshake that this end has initiated and whose message_4 has verified.

        It is on disk when this returns, before its first sender number is used. Raises NoSession if the credential of
        the peer is not registered any more, LeaseLost, StoreError.
        """
        session = self._session(established, address)
        session.ceiling = tuning.NUMBERS_STEP
        before = self._candidates.get(session.entity_id)
        replaces = () if before is None else (before.recipient_id,)
        if not await self._queue.commit(session.lease, AddContext(_stored_now(session), session.credential, replaces)):
            raise NoSession(f"{session.entity_id!r} is not registered any more with the key of this handshake")
        self._set_candidate(session)
        return session

    async def verified(self, session: Session, address: Address, number: int | None = None) -> bool:
        """Note that a message of the peer has verified on `session`, and came from `address`.

        `number` is the sequence number of a request. A request that comes after later ones was delayed, and does not
        change where the peer is. If the session is a candidate this returns when it is on disk and has replaced the
        live one. Returns False if the session is over.
        """
        if self._candidates.get(session.entity_id) is session:
            promoted = self._promotions.run(session.recipient_id, lambda: self._promote(session, address))
            if not await promoted or session.over:
                return False
        if session.ended:  # by this process; the message itself was not accepted if the key does not stand any more
            return False
        session.heard_at = monotonic()
        if number is not None:
            if number < session.newest:
                return True
            session.newest, session.heard = number, address
        if not session.peer.provisional:
            address.link.prefer(address)
        place = address.place
        if session.stored.place != place:
            session.stored = dataclasses.replace(session.stored, place=place)
            self._moved.add(session)
        return True

    async def count_time(self, at_least_s: float = tuning.COUNT_TIME_EVERY_S) -> None:
        """Store by how much all sessions have aged since the last time, if it is at least `at_least_s` (SEC-36)."""
        elapsed = int(monotonic() - self._counted_at)
        if elapsed >= max(at_least_s, 1) and self._by_recipient_id:
            self._counted_at += elapsed
            await asyncio.gather(*(self._queue.commit(lease, CountTime(elapsed)) for lease in self._leases))

    async def save_places(self) -> None:
        """Store where peers were heard last. This is not urgent, as a place is only a hint where to send."""
        moved, self._moved = self._moved, set()
        changes = [
            (session.lease, SetPlace(session.recipient_id, session.stored.place))
            for session in moved
            if not session.ended and not session.peer.provisional and session.stored.place
        ]
        await asyncio.gather(*(self._queue.commit(*change) for change in changes))

    async def numbers_for(self, session: Session) -> None:
        """Reserve sender numbers if `session` has none left. Raises NoSession (it is over), LeaseLost, StoreError."""
        while session.needs_numbers:
            if session.over or session.peer.provisional:
                raise NoSession(f"the session with {session.entity_id!r} is over")
            await self._reservations.run(session.recipient_id, lambda: self._reserve(session))

    async def admit(self, session: Session) -> None:
        """Make a provisional session, whose credential is registered by now, the live one of its entity.

        Other sessions with the entity end. Raises NoSession, LeaseLost, StoreError.
        """
        credential, entity_id = session.credential, session.entity_id
        if self._provisional.pop(session.recipient_id, None) is None:
            raise NoSession(f"{entity_id!r} has no such provisional session")
        self._end_all(entity_id)
        ceiling = session.sender_sequence_number + tuning.NUMBERS_STEP
        kept = False
        try:
            stored = dataclasses.replace(session.stored, sender_ceiling=ceiling)
            kept = await self._queue.commit(session.lease, AddContext(stored, credential))
        finally:
            if not kept:
                self._forget(session)
        if not kept:
            raise NoSession(f"{entity_id!r} is not registered")
        session.ceiling = ceiling
        session.peer = Peer(credential.entity_id, credential.role, session=session.recipient_id)
        self._live[entity_id] = session
        self._incidents.count("sessions_begun")

    # Ending

    def drop(self, entity_id: str) -> list[Session]:
        """End all sessions with `entity_id` in memory; return them, so that the caller removes them from the disk."""
        return self._end_all(entity_id)

    def answered(self, session: Session) -> None:
        """End `session` if it was to end with the answer that was sent now."""
        if session.ends_when_answered:
            self._end(session)

    def end_provisional(self) -> None:
        """End all provisional sessions, because the pairing window closes."""
        for session in list(self._provisional.values()):
            self._end(session)

    def sweep(self) -> list[Session]:
        """End worn out sessions in memory; return them, so that the caller removes them from the disk."""
        now = monotonic()
        return [self._end(session) for session in list(self._by_recipient_id.values()) if session.worn_out(now)]

    async def reconcile(self) -> None:
        """End the sessions whose context was removed from the store, or whose key was replaced or removed in it."""
        stored = [
            session
            for session in self._by_recipient_id.values()
            if not session.peer.provisional and session.ceiling and session.recipient_id not in self._promotions
        ]
        shards = [lease.shard for lease in self._leases]
        found = await asyncio.to_thread(lambda: [each for shard in shards for each in self._store.contexts(shard)])
        kept = {context.recipient_id for context in found}
        for session in stored:
            if session.recipient_id not in kept:
                self._end(session)
        for session in list(self._by_recipient_id.values()):
            if not session.peer.provisional and session.over:
                self._end(session)

    # Private

    def _session(self, established: Established, address: Address) -> Session:
        """Return the new session. It belongs to the shard of the entity that brings the peer's datagrams, if one does.

        Raises LeaseLost if another process has the sessions of that shard.
        """
        stored = StoredContext(
            recipient_id=established.recipient_id,
            sender_id=established.sender_id,
            entity_id=established.peer.entity_id,
            master_secret=established.export(LABEL_MASTER_SECRET, 16),
            master_salt=established.export(LABEL_MASTER_SALT, 8),
            established=int(time.time()),
            sender_ceiling=0,
            place=address.place,
        )
        who, recipient_id = established.peer, established.recipient_id
        peer = Peer(who.entity_id, who.role, established.provisional, recipient_id)
        session = Session(
            stored,
            peer,
            self._leases.of(address.carried_by or who.entity_id),
            credential=established.peer,
            stands=self._store.stands,
            echo=None,
            exporter_key=established.exporter_key,
        )
        session.heard_at = monotonic()  # the peer's message_3 or message_4 has verified
        if established.provisional:
            session.ceiling = tuning.SESSION_NUMBERS_MAX
        return session

    def _set_candidate(self, session: Session) -> None:
        """Add a candidate beside the live session, in place of an earlier candidate (SEC-21)."""
        self._forget(self._candidates.pop(session.entity_id, None))
        self._candidates[session.entity_id] = session
        self._by_recipient_id[session.recipient_id] = session

    async def _promote(self, session: Session, address: Address) -> bool:
        """Make a candidate the live session; the session before ends only now (SEC-21). Return False if it is over."""
        entity_id = session.entity_id
        before = self._live.get(entity_id)
        if session.ceiling == 0:  # the peer has initiated it, so it is not on disk yet
            session.stored = dataclasses.replace(session.stored, place=address.place)
            replaces = () if before is None else (before.recipient_id,)
            written = dataclasses.replace(session.stored, sender_ceiling=tuning.NUMBERS_STEP)
            committed = await self._queue.commit(session.lease, AddContext(written, session.credential, replaces))
            session.ceiling = tuning.NUMBERS_STEP
        elif before is not None:
            committed = await self._queue.commit(session.lease, RemoveContext(before.recipient_id))
        else:
            committed = True
        if not committed or session.over:
            self._end(session)
            return False
        self._forget(self._live.pop(entity_id, None))
        self._candidates.pop(entity_id, None)
        self._live[entity_id] = session
        self._incidents.count("sessions_begun")
        return True

    async def _reserve(self, session: Session) -> None:
        block = session.next_block()
        if not await self._queue.commit(session.lease, block):
            self._end(session)
            raise NoSession(f"the session with {session.entity_id!r} is over")
        session.block_reserved(block)

    def _end_all(self, entity_id: str) -> list[Session]:
        found = [self._candidates.get(entity_id), self._live.get(entity_id)]
        return [self._end(session) for session in found if session is not None]

    def _end(self, session: Session) -> Session:
        for table in (self._candidates, self._live):
            if table.get(session.entity_id) is session:
                del table[session.entity_id]
        self._provisional.pop(session.recipient_id, None)
        self._forget(session)
        return session

    def _forget(self, session: Session | None) -> None:
        if session is None or session.ended:
            return
        session.ended = True
        self._by_recipient_id.pop(session.recipient_id, None)
        self._incidents.count("sessions_ended")


def _last_heard(sessions: Iterable[Session], now: float) -> Heard | None:
    """Return when and where one of these sessions was heard last, None if none was. `now`: monotonic seconds."""
    heard = [(session.heard_at, session) for session in sessions if session.heard_at is not None]
    if not heard:
        return None
    heard_at, session = max(heard, key=lambda each: each[0])
    return Heard(now - heard_at, session.stored.place or "")


def _stored_now(session: Session) -> StoredContext:
    return dataclasses.replace(session.stored, sender_ceiling=session.ceiling)
