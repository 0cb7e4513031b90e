"""All sessions of an endpoint: found by kid for what comes in, by entity for what goes out.

An entity has at most one live session and one candidate beside it. A candidate from a new handshake takes the place
of the live one when something on it has verified; until then both answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.commit_queue import CommitQueue
from message_plane.credentials import RESPONDERS_OF
from message_plane.edhoc import C_I_LEN, C_R_LEN, LABEL_MASTER_SALT, LABEL_MASTER_SECRET, Established
from message_plane.errors import NoSession
from message_plane.incidents import Incidents
from message_plane.links.link import Address
from message_plane.session import Peer, Session
from message_plane.session_store import (
    AddContext,
    CountTime,
    Lease,
    RemoveContext,
    SessionStore,
    SetPlace,
    StoredContext,
)
from message_plane.single_flight import SingleFlight

ECHO_LEN = 8


@dataclass(frozen=True, slots=True)
class Heard:
    """Something of a peer has verified `age_s` seconds ago and came from `place` (`links.link.Address.place`)."""

    age_s: float
    place: str


class Sessions:
    """The table of sessions. All state changes that must survive go through the commit queue."""

    def __init__(
        self, own_role: str, store: SessionStore, queue: CommitQueue, lease: Lease, incidents: Incidents
    ) -> None:
        self._own_role = own_role
        self._store = store
        self._queue = queue
        self._lease = lease
        self._incidents = incidents
        self._by_recipient_id: dict[bytes, Session] = {}
        self._live: dict[str, Session] = {}
        self._candidates: dict[str, Session] = {}
        self._provisional: dict[bytes, Session] = {}  # by recipient ID, the oldest first
        self._moved: set[Session] = set()
        self._counted_at = monotonic()
        self._promotions = SingleFlight[bool]()
        self._reservations = SingleFlight[None]()

    def load(self) -> None:
        """Take up what the store holds: oldest first, so that of two with one entity the newer is the candidate."""
        for stored in self._store.contexts():
            credential = self._store.credential(stored.entity_id)  # of the key that it was made with, or it were gone
            if credential is None:
                continue
            peer = Peer(credential.entity_id, credential.role, session=stored.recipient_id)
            session = Session(
                stored,
                peer,
                self._lease,
                credential=credential,
                stands=self._store.stands,
                echo=secrets.token_bytes(ECHO_LEN),
            )
            self._by_recipient_id[session.recipient_id] = session
            (self._candidates if peer.entity_id in self._live else self._live)[peer.entity_id] = session

    async def close(self) -> None:
        """Cancel commits that sessions wait for."""
        await self._promotions.close()
        await self._reservations.close()

    # Looking up

    @property
    def may_send(self) -> bool:
        """False while the lease has lapsed: then nothing is taken either, as it could not be answered (SEC-23)."""
        return self._lease.valid

    def by_recipient_id(self, recipient_id: bytes) -> Session | None:
        """Return the session whose peer sends this kid, unless it has worn out.

        `Session.unprotect` asks if it is over.
        """
        session = self._by_recipient_id.get(recipient_id)
        return None if session is None or session.worn_out(monotonic()) else session

    def to_send(self, entity_id: str) -> Session | None:
        """Return the session to send on: ours to confirm if we initiated it, else the one the peer has used.

        Raises StoreError.
        """
        candidate = self._candidates.get(entity_id)
        if candidate is not None and candidate.peer.role in RESPONDERS_OF[self._own_role]:
            session: Session | None = candidate
        else:
            session = self._live.get(entity_id)
        return None if session is None or session.over or session.worn_out(monotonic()) else session

    def newest(self, entity_id: str) -> Session | None:
        """Return the session of the newest handshake with the registered `entity_id`. Raises StoreError."""
        for table in (self._candidates, self._live):
            session = table.get(entity_id)
            if session is not None and not session.over:
                return session
        return None

    def of(self, peer: Peer) -> Session | None:
        """Return the very session that `peer` spoke on, unless it is over. Raises StoreError."""
        session = self._by_recipient_id.get(peer.session)
        return None if session is None or session.over else session

    def entities(self) -> set[str]:
        """Return all entities with a live session or a candidate."""
        both = (*self._live.values(), *self._candidates.values())
        return {session.entity_id for session in both if not session.over}

    def last_heard(self, entity_id: str) -> Heard | None:
        """When and where something of `entity_id` verified last in this process, on a session that stands.

        Raises StoreError.
        """
        both = (self._candidates.get(entity_id), self._live.get(entity_id))
        heard = [each for each in both if each is not None and each.heard_at is not None and not each.over]
        if not heard:
            return None
        newest = max(heard, key=lambda session: session.heard_at or 0.0)
        return Heard(monotonic() - (newest.heard_at or 0.0), newest.stored.place or "")

    def unused_id(self, length: int, taken: Callable[[bytes], bool] = lambda _: False) -> bytes:
        """Return a random recipient ID that no session has, for which `taken` is False.

        Lengths are those of C_I and C_R.
        """
        if length not in (C_I_LEN, C_R_LEN):
            raise ValueError("length of C_I or C_R wanted")
        while True:
            recipient_id = secrets.token_bytes(length)
            if recipient_id not in self._by_recipient_id and not taken(recipient_id):
                return recipient_id

    # Beginning

    def add_as_responder(self, established: Established, address: Address) -> None:
        """Take up a handshake that the peer initiated: in memory only, until a request on it has verified.

        A provisional peer always finds room: the oldest from its address gives way, or the oldest of all. So many are
        kept that, at the most handshakes a second that are computed, each has the time that a board needs (SEC-35).
        """
        session = self._session(established, address)
        session.heard = address
        if not established.provisional:
            self._set_candidate(session)
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
        """Take up a handshake of ours, message_4 verified: on disk before its first sender number is used."""
        session = self._session(established, address)
        session.ceiling = tuning.NUMBERS_STEP
        before = self._candidates.get(session.entity_id)
        replaces = () if before is None else (before.recipient_id,)
        if not await self._queue.commit(AddContext(_stored_now(session), session.credential, replaces)):
            raise NoSession(f"{session.entity_id!r} is not registered any more with the key of this handshake")
        self._set_candidate(session)
        return session

    async def verified(self, session: Session, address: Address, number: int | None = None) -> bool:
        """Something from the peer has verified on `session`, coming from this address. False if the session is over.

        `number` is the sequence number of a request. One that comes after later ones was held up, or held back, and
        says nothing about where the peer is now. Returns once a candidate is on disk and the session before it is gone.
        """
        if self._candidates.get(session.entity_id) is session:
            promoted = self._promotions.run(session.recipient_id, lambda: self._promote(session, address))
            if not await promoted:
                return False
        if session.over:
            return False
        session.heard_at = monotonic()
        if number is not None:
            if number < session.newest:
                return True
            session.newest, session.heard = number, address
        place = address.place
        if session.stored.place != place:
            session.stored = dataclasses.replace(session.stored, place=place)
            self._moved.add(session)
        return True

    async def count_time(self, at_least_s: float = tuning.COUNT_TIME_EVERY_S) -> None:
        """Write down by how much all sessions have aged since it was done last, if it is so much or more (SEC-36)."""
        elapsed = int(monotonic() - self._counted_at)
        if elapsed >= max(at_least_s, 1) and self._by_recipient_id:
            self._counted_at += elapsed
            await self._queue.commit(CountTime(elapsed))

    async def save_places(self) -> None:
        """Write down where peers were last. Not urgent: a place is where to look, never a proof."""
        moved, self._moved = self._moved, set()
        changes = [
            SetPlace(session.recipient_id, session.stored.place)
            for session in moved
            if not session.ended and not session.peer.provisional and session.stored.place
        ]
        await asyncio.gather(*map(self._queue.commit, changes))

    async def numbers_for(self, session: Session) -> None:
        """Return when `session` has a sender number to use. Raises NoSession if it is over, LeaseLost, StoreError."""
        while session.needs_numbers:
            if session.over or session.peer.provisional:
                raise NoSession(f"the session with {session.entity_id!r} is over")
            await self._reservations.run(session.recipient_id, lambda: self._reserve(session))

    async def admit(self, session: Session) -> None:
        """Make a provisional session, whose credential is registered by now, an ordinary one. Raises NoSession."""
        credential, entity_id = session.credential, session.entity_id
        if self._provisional.pop(session.recipient_id, None) is None:
            raise NoSession(f"{entity_id!r} has no such provisional session")
        self._end_all(entity_id)
        ceiling = session.sender_sequence_number + tuning.NUMBERS_STEP
        kept = False
        try:
            stored = dataclasses.replace(session.stored, sender_ceiling=ceiling)
            kept = await self._queue.commit(AddContext(stored, credential))
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
        """End all sessions with `entity_id`, in memory; those to be removed from disk are returned."""
        return self._end_all(entity_id)

    def answered(self, session: Session) -> None:
        """The answer to a request on `session` is on its way: one that was to end with it ends."""
        if session.ends_when_answered:
            self._end(session)

    def end_provisional(self) -> None:
        """The pairing window closes: end all provisional sessions."""
        for session in list(self._provisional.values()):
            self._end(session)

    def sweep(self) -> list[Session]:
        """End worn out sessions, in memory; those to be removed from disk are returned."""
        now = monotonic()
        return [self._end(session) for session in list(self._by_recipient_id.values()) if session.worn_out(now)]

    def reconcile(self) -> None:
        """End the sessions whose context was removed from the store, or whose key was replaced or removed there."""
        kept = {stored.recipient_id for stored in self._store.contexts()}
        for session in list(self._by_recipient_id.values()):
            if session.peer.provisional:
                continue
            unsaved = session.ceiling == 0 or session.recipient_id in self._promotions
            if session.over or (session.recipient_id not in kept and not unsaved):
                self._end(session)

    # Private

    def _session(self, established: Established, address: Address) -> Session:
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
            self._lease,
            credential=established.peer,
            stands=self._store.stands,
            echo=None,
            exporter_key=established.exporter_key,
        )
        session.heard_at = monotonic()  # its message_3 or message_4 has verified
        if established.provisional:
            session.ceiling = tuning.SESSION_NUMBERS_MAX
        return session

    def _set_candidate(self, session: Session) -> None:
        """Take it up beside the live one, in the place of a candidate before it (SEC-21)."""
        self._forget(self._candidates.pop(session.entity_id, None))
        self._candidates[session.entity_id] = session
        self._by_recipient_id[session.recipient_id] = session

    async def _promote(self, session: Session, address: Address) -> bool:
        """Return the live one ends only now that something has verified on the candidate (SEC-21).

        False if it is over.
        """
        entity_id = session.entity_id
        before = self._live.get(entity_id)
        if session.ceiling == 0:  # the peer initiated: not on disk yet
            session.stored = dataclasses.replace(session.stored, place=address.place)
            replaces = () if before is None else (before.recipient_id,)
            written = dataclasses.replace(session.stored, sender_ceiling=tuning.NUMBERS_STEP)
            committed = await self._queue.commit(AddContext(written, session.credential, replaces))
            session.ceiling = tuning.NUMBERS_STEP
        elif before is not None:
            committed = await self._queue.commit(RemoveContext(before.recipient_id))
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
        if not await self._queue.commit(block):
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


def _stored_now(session: Session) -> StoredContext:
    return dataclasses.replace(session.stored, sender_ceiling=session.ceiling)
