"""The interface of the message plane: an endpoint with CoAP, EDHOC and OSCORE for one entity, on one or more links."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.commit_queue import CommitQueue
from message_plane.credentials import Credential
from message_plane.edhoc import C_I_LEN, export
from message_plane.errors import (
    LeaseLost,
    NoSession,
    NotRegistered,
    PeerUnreachable,
    PlaneError,
    StoreError,
)
from message_plane.exchanges import Exchanges
from message_plane.identity import OwnIdentity
from message_plane.incidents import Incidents, log
from message_plane.incoming import Incoming
from message_plane.lease import LEASE_MS, Lease, Leases, Shard
from message_plane.links.link import Address, Link
from message_plane.outgoing import ContextLost, Outgoing
from message_plane.reception import Reception
from message_plane.resource import Resources, ResourcesByRole
from message_plane.session import Peer, Session
from message_plane.session_store import RemoveContext, SessionStore
from message_plane.sessions import Contact, Heard, Sessions
from message_plane.single_flight import SingleFlight
from message_plane.uplink_handshake import shake_hands
from message_plane.vouched import Vouched

__all__ = ["Endpoint", "Peer"]

_HOUSEKEEPING_S = LEASE_MS / 1000 / 4
COUNT_WHEN_CLOSED_S = 60  # a process that is often started and stopped need not write each time
_HANDSHAKE_S = 30.0


class Endpoint:
    """The sessions, requests and resources of one entity. `open` makes it, `close` ends it.

    `failed` is a future that is done, with the exception as its result, when the endpoint cannot go on (LeaseLost:
    another process has taken over all sessions). It has closed its links then, and the caller can only `close` it.
    """

    def __init__(
        self,
        identity: OwnIdentity,
        store: SessionStore,
        lease: Lease | None,
        resources: ResourcesByRole,
        counters: Counter[str],
        requests_max: int = tuning.REQUESTS_MAX,
        shard_of: Callable[[str], int] | None = None,
    ) -> None:
        """Only `open` calls this."""
        self.identity = identity
        self.counters = counters
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._store = store
        self._lease = lease
        incidents = Incidents(counters)
        self._leases = Leases(shard_of) if shard_of is not None and lease is None else Leases()
        self._queue = CommitQueue(store)
        self._sessions = Sessions(identity.role, store, self._queue, self._leases, incidents)
        self._exchanges = Exchanges(self._process, incidents)
        self._reception = Reception(identity, store, self._sessions, incidents, Vouched(store))
        self._incoming = Incoming(resources, self._exchanges, self._sessions, self._reception, incidents)
        self._outgoing = Outgoing(resources, self._exchanges, self._sessions, incidents)
        self._incidents = incidents
        self._removals: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(requests_max)
        self._homes: dict[str, str] = {}
        self._handshakes = SingleFlight[None]()
        self._renewed_at: dict[str, float] = {}
        self._edition = store.edition()
        self._housekeeping: asyncio.Task[None] | None = None
        self._closed = self._silent = False

    @classmethod
    async def open(
        cls,
        *,
        identity: OwnIdentity,
        store: SessionStore,
        resources: ResourcesByRole,
        links: Sequence[Link[Any]],
        counters: Counter[str] | None = None,
        requests_max: int = tuning.REQUESTS_MAX,
        shard_of: Callable[[str], int] | None = None,
    ) -> Endpoint:
        """Acquire the lease of `store`, if it has one for all contexts, open each of `links`, and begin to answer.

        `resources`: by the role of a peer with a session, what it may request, and what `request` requests from it. The
        endpoint closes the links; the caller closes the store. `counters` counts incidents by name. `requests_max`: how
        many requests of this endpoint may be under way at once; others wait. `shard_of` returns the shard
        of an entity by its ID; it is needed with a store whose contexts are leased by shard (`adopt`).

        Raises LeaseHeld, StoreError, and the exceptions of the links (PortInUse, CannotListen).
        """
        endpoint = cls(
            identity,
            store,
            store.acquire(identity.x),
            resources,
            Counter() if counters is None else counters,
            requests_max,
            shard_of,
        )
        try:
            if endpoint._lease is not None:
                await endpoint.adopt(endpoint._lease)
            await endpoint._exchanges.links.open(links)
        except BaseException:
            await endpoint.close()
            raise
        endpoint._housekeeping = asyncio.create_task(endpoint._keep_house(), name="message plane housekeeping")
        return endpoint

    @property
    def places(self) -> list[str]:
        """The places of this end on all its links, in their order (`links.link.Link.places`)."""
        return self._exchanges.links.places

    @property
    def commits(self) -> int:
        """The number of synced transactions in the session store since `open`, without renewals of the lease."""
        return self._queue.commits

    async def adopt(self, lease: Lease) -> None:
        """Use the sessions of a shard whose lease this process has acquired. Raises StoreError.

        Their replay windows are not known, so the first request on each is answered with an Echo challenge.
        """
        await self._sessions.adopt(lease)

    async def let_go(self, lease: Lease) -> None:
        """Stop to use the sessions of a shard, because its lease was lost or is to be given back.

        Nothing is sent on them from now on. When this returns their contexts are in the store as another process needs
        them.
        """
        await self._sessions.let_go(lease)

    async def reconcile(self) -> None:
        """End the sessions whose context or credential was removed from the store, by whatever process.

        This happens by itself within seconds. Raises StoreError.
        """
        await self._sessions.reconcile()

    async def request(self, entity_id: str, payload: bytes, *, resource: str, timeout_s: float = 30.0) -> bytes:
        """Request the resource at the path `resource` from `entity_id` over its session; return the body of the answer.

        The request is sent to where the peer was heard last. If `connect` was called for this entity, it is sent to the
        place named there; a missing session is made first, and a session that the peer has lost is made anew once.
        `timeout_s` begins when the request is sent, because earlier waiting says nothing about the peer. Raises
        NoSession, PeerUnreachable, PeerRefused, HandshakeFailed, LeaseLost, StoreError.
        """
        try:
            async with self._places, asyncio.timeout(None) as limit:

                def departed() -> None:
                    if limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + timeout_s)

                try:
                    return await self._send(entity_id, resource, payload, departed)
                except ContextLost:
                    await self._renew(entity_id)
                    return await self._send(entity_id, resource, payload, departed)
        except TimeoutError:
            self._unreached(entity_id)
            raise PeerUnreachable(f"{entity_id!r} gave no answer within {timeout_s:g} s") from None
        except PeerUnreachable:
            self._unreached(entity_id)
            raise

    async def connect(self, entity_id: str, place: str) -> None:
        """Make a session as EDHOC initiator with the registered `entity_id` at `place`, if there is none.

        `place` is a place of one of the links, for example `udp:cpns.example:5685`. Later requests are sent there, too.
        Raises HandshakeFailed (its credential is unknown, or this end may not initiate towards its role, SEC-16),
        PeerUnreachable, PeerRefused, LeaseLost, StoreError.
        """
        self._homes[entity_id] = place
        if self._sessions.to_send(entity_id) is None:
            await self._establish(entity_id)

    async def ping(self, entity_id: str, *, timeout_s: float) -> bool:
        """Send an empty message (RFC 7252, 4.3) to where requests to `entity_id` are sent, and wait for its answer.

        It makes routers keep the path open. It proves nothing to either end, as any sender could send the four octets
        or their answer. Returns True if it is answered within `timeout_s` seconds. Raises NoSession, PeerUnreachable
        (its name is not known).
        """
        session = self._sessions.to_send(entity_id)
        if session is None:
            raise NoSession(f"there is no session with {entity_id!r}")
        address = await self._address_of(session)
        try:
            async with asyncio.timeout(timeout_s):
                await self._exchanges.ping(address)
        except TimeoutError:
            self._incidents.count("pings_unanswered")
            session.address = None  # so that its name is looked up anew
            return False
        return True

    def has_session(self, entity_id: str) -> bool:
        """Return True while a session with `entity_id` can be used, False also while the store fails."""
        with suppress(StoreError):
            return self._sessions.to_send(entity_id) is not None
        return False

    def last_heard(self, entity_id: str) -> Heard | None:
        """Return when and where a message of `entity_id` verified last in this process.

        Returns None if none did, if the session is over, or while the store fails.
        """
        with suppress(StoreError):
            return self._sessions.last_heard(entity_id)
        return None

    def contacts(self, role: str) -> dict[str, Contact]:
        """Return the contact with each registered entity of this role, by entity ID. Raises StoreError.

        A session counts even if no message has verified on it yet.
        """
        return self._sessions.contacts(role)

    def entities(self) -> set[str]:
        """Return the entity IDs with a session. Raises StoreError."""
        return self._sessions.entities()

    def drop(self, entity_id: str) -> asyncio.Task[None]:
        """End all sessions with `entity_id` (SEC-06): in memory now, on disk when the returned task is done."""
        task = asyncio.get_running_loop().create_task(self._remove(self._sessions.drop(entity_id)))
        self._removals.add(task)
        task.add_done_callback(self._removed)
        return task

    def export(self, of: str | Peer, label: int, length: int) -> bytes:
        """Return EDHOC_Exporter(label, h'', length) of a handshake in this process.

        `of`: the ID of a registered entity, for its newest handshake, or a peer, for the handshake of its session.
        Raises NoSession if there was none, StoreError.
        """
        session = self._sessions.newest(of) if isinstance(of, str) else self._sessions.of(of)
        if session is None or session.exporter_key is None:
            name = of if isinstance(of, str) else of.entity_id
            raise NoSession(f"there was no handshake with {name!r} since the start")
        return export(session.exporter_key, label, length)

    def shard_of(self, peer: Peer) -> Shard:
        """Return the shard of the session of `peer`, None if the session is over or its store has no shards."""
        session = self._sessions.of(peer)
        return None if session is None else session.lease.shard

    def let_succeed(self, succeed: Callable[[Credential], bool]) -> None:
        """Accept handshakes of the successors in the store (`SessionStore.name_successor`).

        `succeed` is called with the credential of each that has proved its key. It registers it and returns whether it
        could.
        """
        self._reception.succeed = succeed

    # Pairing (docs/protocol.md section 9)

    def open_pairing(
        self, accept: Callable[[Credential], bool], resources: Resources, *, duration_s: float = tuning.PAIRING_S
    ) -> None:
        """Accept unregistered PNEs, with credentials by value, for `duration_s` seconds (SEC-20).

        They can use `resources` only. `accept` is called with each credential that is offered and returns whether it is
        accepted. Such a peer is provisional: `export` works for it, `request` does not, and nothing about it is stored
        unless `admit` is called.
        """
        self._incoming.serve_provisional(resources)
        self._reception.open_window(accept, monotonic() + duration_s)

    def close_pairing(self) -> None:
        """Close the pairing window and end all provisional sessions (SEC-20)."""
        self._reception.close_window()
        self._incoming.serve_provisional(None)
        self._sessions.end_provisional()

    def credential(self, peer: Peer) -> Credential:
        """Return the credential that authenticated the session of `peer`. Raises NoSession, StoreError."""
        session = self._sessions.of(peer)
        if session is None:
            raise NoSession(f"the session with {peer.entity_id!r} is over")
        return session.credential

    async def admit(self, peer: Peer) -> None:
        """Make the session of a provisional `peer`, whose credential is registered by now, an ordinary one.

        Other sessions with that entity end. Raises NoSession, LeaseLost, StoreError.
        """
        session = self._sessions.of(peer)
        if session is None or not session.peer.provisional:
            raise NoSession(f"{peer.entity_id!r} has no provisional session")
        await self._sessions.admit(session)

    def end_when_answered(self, peer: Peer) -> None:
        """End the session of a provisional `peer`, whose proof was wrong, when the answer to it was sent."""
        session = self._sessions.of(peer)
        if session is not None and session.peer.provisional:
            session.ends_when_answered = True

    async def close(self) -> None:
        """Stop answering, cancel all work, and release the lease. The store stays open."""
        if self._closed:
            return
        self._closed = True
        await self._silence()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        with suppress(PlaneError):  # a store that fails is reported below, with the release of the lease
            await self._sessions.count_time(COUNT_WHEN_CLOSED_S)
        await self._handshakes.close()
        await self._sessions.close()
        await asyncio.gather(*self._removals, return_exceptions=True)
        await self._queue.close()
        try:
            if self._lease is not None:
                self._store.release(self._lease)
        except StoreError as problem:
            log.warning("KC3001 the lease could not be given back: %s", problem)

    # Private

    def _process(self, request: object) -> None:
        self._incoming.process(request)

    async def _send(self, entity_id: str, path: str, payload: bytes, departed: Callable[[], None]) -> bytes:
        session = self._sessions.to_send(entity_id)
        if session is None:
            self._leases.of(entity_id).require()
            await self._establish(entity_id)
            session = self._sessions.to_send(entity_id)
        if session is None:
            raise NoSession(f"there is no session with {entity_id!r}")
        return await self._outgoing.send(session, await self._address_of(session), path, payload, departed)

    async def _address_of(self, session: Session) -> Address:
        """Return the address of the peer: of the place that `connect` got, else where the peer was heard last.

        Raises NoSession, PeerUnreachable.
        """
        home = self._homes.get(session.entity_id)
        if home is None and session.heard is not None:
            return session.heard
        place = home or session.stored.place
        if place is None:
            raise NoSession(f"the address of {session.entity_id!r} is not known")
        if session.address is None or session.place != place:
            session.place = place
            session.address = await self._exchanges.links.find(place)
        return session.address

    def _unreached(self, entity_id: str) -> None:
        """Count a request without an answer, and forget the peer's address, as the peer may have moved."""
        self._incidents.count("requests_unanswered")
        session = self._sessions.to_send(entity_id)
        if session is not None:
            session.address = session.heard = None

    async def _establish(self, entity_id: str) -> None:
        """Do one handshake with `entity_id` for all requests that need it now."""
        if entity_id not in self._homes:
            raise NoSession(f"there is no session with {entity_id!r}, and no address at which to make one")
        await self._handshakes.run(entity_id, lambda: self._shake_hands(entity_id))

    async def _shake_hands(self, entity_id: str) -> None:
        peer = self._store.credential(entity_id)
        if peer is None:
            raise NotRegistered(f"{entity_id!r} is not registered: register its credential first")
        address = await self._exchanges.links.find(self._homes[entity_id])
        c_i = self._sessions.unused_id(C_I_LEN)
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                established = await shake_hands(self.identity, peer, c_i, self._exchanges, address)
        except TimeoutError:
            raise PeerUnreachable(f"{entity_id!r} did not finish a handshake within {_HANDSHAKE_S:g} s") from None
        await self._sessions.add_as_initiator(established, address)
        self._incidents.count("handshakes_done")

    async def _renew(self, entity_id: str) -> None:
        """Make the session anew, at most once a minute, because the message that it is lost has no proof (SEC-27)."""
        now = monotonic()
        if now - self._renewed_at.get(entity_id, -tuning.RENEW_MIN_S) < tuning.RENEW_MIN_S:
            raise NoSession(f"{entity_id!r} has lost the session again: the next handshake waits for its minute")
        self._renewed_at[entity_id] = now
        await self._establish(entity_id)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            try:
                if self._lease is not None:
                    await self._queue.renew(self._lease)
                if self._store.trouble:
                    await asyncio.to_thread(self._store.probe)
                await self._tidy()
            except LeaseLost as lost:
                if self._lease is None:  # that of one shard, whose holder here ends it by `let_go`
                    log.info("%s", lost)
                    continue
                log.error("KC3002 %s", lost)
                await self._silence()
                self.failed.set_result(lost)
                return
            except StoreError:
                pass  # the process that runs the endpoint reports `SessionStore.trouble`
            except PlaneError as problem:
                log.error("KC3003 %s", problem)
            except Exception as fault:  # noqa: BLE001 - it becomes the result of `failed`
                log.exception("KC3004 housekeeping of the message plane cannot go on")
                await self._silence()
                self.failed.set_result(fault)
                return

    async def _remove(self, ended: Sequence[Session]) -> None:
        removals = ((session.lease, RemoveContext(session.recipient_id)) for session in ended)
        await asyncio.gather(*(self._queue.commit(*removal) for removal in removals))

    def _removed(self, task: asyncio.Task[None]) -> None:
        self._removals.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("KC3005 a session that was ended is still on the disk: %s", task.exception())

    async def _tidy(self) -> None:
        now = monotonic()
        self._reception.expire(now)
        self._incoming.expire(now)
        if self._incoming.pairing_resources is not None and not self._reception.window_open(now):
            self.close_pairing()
        await self._remove(self._sessions.sweep())
        await self._sessions.save_places()
        await self._sessions.count_time()
        edition = self._store.edition()
        if edition != self._edition:
            self._edition = edition
            await self._sessions.reconcile()

    async def _silence(self) -> None:
        if not self._silent:
            self._silent = True
            await self._incoming.close()
            await self._exchanges.shutdown()
