"""The session store in PostgreSQL, which several processes share: each uses the contexts of the shards that it holds.

Credentials are looked up several times for every message, so each process has all of them in memory, and hears of the
changes of the others by a notification. What is written is decided by the database alone.
"""

import tempfile
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psycopg

from key_servers.cpns_server.postgres.connection import PatientConnection, failed, is_trouble
from key_servers.errors import ServerError
from message_plane.binding import require_free
from message_plane.credentials import Credential
from message_plane.errors import RegistrationRefused, StoreError
from message_plane.lease import Lease, Shard
from message_plane.session_file import SessionFile
from message_plane.session_store import (
    AddContext,
    Change,
    CountTime,
    RaiseCeiling,
    RemoveContext,
    SetPlace,
    StoredContext,
)

CHANNEL = "keycast_credentials"
"""Notified with the entity ID of a credential that was registered or removed, "" for "look at everything"."""

_CREDENTIAL = "entity_id, role, x, ccs, kid"
_REGISTER = f"INSERT INTO credential ({_CREDENTIAL}) VALUES (%s, %s, %s, %s, %s)"
_CONTEXT = "recipient_id, sender_id, entity_id, master_secret, master_salt, established, sender_ceiling, place, lived_s"
_ADD = (
    "WITH standing AS (SELECT 1 FROM credential WHERE entity_id = %(id)s AND x = %(x)s AND role = %(role)s"
    " FOR KEY SHARE), replaced AS (DELETE FROM oscore_context WHERE EXISTS (SELECT 1 FROM standing)"
    # Of a peer that came by another way before, only the newest context stays.
    " AND (recipient_id = ANY(%(replaces)s) OR (entity_id = %(id)s AND shard <> %(shard)s)))"
    f" INSERT INTO oscore_context ({_CONTEXT}, x, shard)"
    " SELECT %(c0)s, %(c1)s, %(c2)s, %(c3)s, %(c4)s, %(c5)s, %(c6)s, %(c7)s, %(c8)s, %(x)s, %(shard)s FROM standing"
    # A recipient ID that a peer of another process has by chance: this handshake comes to nothing.
    " ON CONFLICT (recipient_id) DO NOTHING"
)
_RAISE = (
    "UPDATE oscore_context SET sender_ceiling = greatest(sender_ceiling, wanted.ceiling)"
    " FROM unnest(%s::BYTEA[], %s::BIGINT[], %s::BIGINT[]) AS wanted (id, ceiling, of_shard)"
    " WHERE recipient_id = wanted.id AND shard = wanted.of_shard RETURNING recipient_id"
)
_SET_PLACE = (
    "UPDATE oscore_context SET place = wanted.place FROM unnest(%s::BYTEA[], %s::TEXT[]) AS wanted (id, place)"
    " WHERE recipient_id = wanted.id RETURNING recipient_id"
)


class PostgresSessions:
    """The credentials and contexts of one CPNS Server (`message_plane.session_store.SessionStore`).

    All its calls share one connection. After a failure of that, calls fail at once until `probe` has made another one.
    """

    def __init__(self, connect: Callable[[], PatientConnection]) -> None:
        """Connect to the database, whose schema is up to date, and read the credentials.

        Raises StoreUnusable, StoreFailed.
        """
        self._connect = connect
        self._using = threading.Lock()
        self._trouble = ""
        self._edits = 0
        self._by_name: dict[str, Credential] = {}
        self._by_kid: dict[bytes, list[Credential]] = {}
        self._connection = connect()
        try:
            self._read_all()
        except psycopg.Error as error:
            self.close()
            raise failed(error) from None

    def close(self) -> None:
        """As `SessionStore.close`."""
        with self._using, suppress(psycopg.Error):
            self._connection.close()

    # Registered credentials

    def bind(self, credential: Credential, *, replace: bool, reserved: Collection[str] = ()) -> bool:
        """As `SessionStore.bind`."""
        with self._transaction() as connection:
            present = _judged(connection, credential, replace, reserved, lock=True)
            if present == credential:
                return False
            connection.execute("DELETE FROM credential WHERE entity_id = %s", (credential.entity_id,))
            connection.execute(_REGISTER, astuple(credential))
            _notify(connection, credential.entity_id)
        self._note(credential.entity_id, credential)
        return True

    def require_bindable(self, credential: Credential, *, replace: bool, reserved: Collection[str] = ()) -> bool:
        """As `SessionStore.require_bindable`."""
        with self._transaction() as connection:
            return _judged(connection, credential, replace, reserved) != credential

    def unregister(self, entity_id: str) -> bool:
        """As `SessionStore.unregister`."""
        with self._transaction() as connection:
            known = connection.execute("DELETE FROM credential WHERE entity_id = %s", (entity_id,)).rowcount > 0
            _notify(connection, entity_id)
        self._note(entity_id, None)
        return known

    def credential(self, entity_id: str) -> Credential | None:
        """As `SessionStore.credential`."""
        return self._by_name.get(entity_id)

    def stands(self, credential: Credential) -> bool:
        """As `SessionStore.stands`. A change by another process counts here a moment later."""
        present = self._by_name.get(credential.entity_id)
        return present is credential or present == credential

    def candidates(self, kid: bytes) -> list[Credential]:
        """As `SessionStore.candidates`."""
        return sorted(self._by_kid.get(kid, ()), key=lambda credential: credential.entity_id)

    def successor(self, *, entity_id: str = "", kid: bytes = b"") -> None:
        """Return None: only a PN GW names successors."""

    def registered_keys(self, role: str) -> dict[str, bytes]:
        """As `SessionStore.registered_keys`."""
        return {each.entity_id: each.x for each in self._by_name.values() if each.role == role}

    def registered(self) -> list[Credential]:
        """As `SessionStore.registered`."""
        return list(self._by_name.values())

    def refresh(self, entity_id: str) -> None:
        """Read again what another process may have changed: one credential, or with "" all. It may run in a thread.

        Raises StoreError.
        """
        with self._transaction() as connection:
            if not entity_id:
                self._edits += 1
                self._read_all()
                return
            found = connection.execute(f"SELECT {_CREDENTIAL} FROM credential WHERE entity_id = %s", (entity_id,))
            row = found.fetchone()
        self._note(entity_id, None if row is None else Credential(*row))

    # Leases

    def acquire(self, owner_x: bytes) -> None:
        """As `SessionStore.acquire`: there is a lease for each shard."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO session_owner VALUES (1, %s) ON CONFLICT DO NOTHING", (owner_x,))
            stored = connection.execute("SELECT x FROM session_owner FOR UPDATE").fetchone()
            if stored is not None and bytes(stored[0]) != owner_x:
                connection.execute("DELETE FROM oscore_context")
                connection.execute("UPDATE session_owner SET x = %s", (owner_x,))
                _notify(connection, "")

    def release(self, lease: Lease) -> None:
        """Do nothing: leases of shards are not the endpoint's (`shards.ShardTable.release`)."""

    def commit(self, changes: Mapping[Lease, Sequence[Change]]) -> frozenset[bytes]:
        """As `SessionStore.commit`."""
        with self._transaction() as connection:
            held = _held(connection, changes)
            gone = _applied(connection, {lease: changes[lease] for lease in held})
        for lease in changes.keys() - held:
            lease.lose()
        return gone

    # Contexts

    def contexts(self, shard: Shard = None) -> list[StoredContext]:
        """As `SessionStore.contexts`."""
        return [stored for stored, _ in self.sessions(shard)]

    def sessions(self, shard: Shard = None) -> list[tuple[StoredContext, Credential]]:
        """As `SessionStore.sessions`."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {_CONTEXT}, role, x, ccs, kid FROM oscore_context JOIN credential USING (entity_id, x)"
                " WHERE %(shard)s::BIGINT IS NULL OR shard = %(shard)s ORDER BY made",
                {"shard": shard},
            ).fetchall()
        return [(StoredContext(*row[:9]), Credential(row[2], *row[9:])) for row in rows]

    def edition(self) -> Hashable:
        """As `SessionStore.edition`."""
        return self._edits

    def discard_contexts(self) -> None:
        """Delete all contexts, in the other processes too, after a restore of the database (SEC-03)."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM oscore_context")
            _notify(connection, "")
        self._edits += 1

    @property
    def trouble(self) -> str:
        """As `SessionStore.trouble`."""
        return self._trouble

    def probe(self) -> None:
        """As `SessionStore.probe`. It connects, which may take seconds, so it is called in a thread."""
        if not self._trouble:
            return
        try:
            connection = self._connect()
        except ServerError as error:
            self._trouble = str(error)
            return
        with self._using:
            self._connection, self._trouble = connection, ""
        self.refresh("")

    def image(self) -> bytes:
        """As `SessionStore.image`: the octets of a file with the same credentials."""
        with tempfile.TemporaryDirectory() as folder, closing(SessionFile(Path(folder) / "sessions.sqlite3")) as copy:
            for credential in self.registered():
                copy.register(credential)
            return copy.image()

    # Private

    @contextmanager
    def _transaction(self) -> Iterator[PatientConnection]:
        with self._using:
            if self._trouble:
                raise StoreError(self._trouble)
            try:
                self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                yield self._connection
                self._connection.execute("COMMIT")
            except psycopg.Error as error:
                failure = failed(error)
                self._undo(broken=is_trouble(error), why=str(failure))
                raise StoreError(str(failure)) from None
            except BaseException:
                self._undo(broken=False, why="")
                raise

    def _undo(self, *, broken: bool, why: str) -> None:
        try:
            if not broken:
                self._connection.execute("ROLLBACK")
                return
        except psycopg.Error as error:
            why = str(failed(error))
        self._trouble = why
        with suppress(psycopg.Error):
            self._connection.close()

    def _read_all(self) -> None:
        rows = self._connection.execute(f"SELECT {_CREDENTIAL} FROM credential").fetchall()
        known = {row[0]: Credential(*row) for row in rows}
        by_kid: dict[bytes, list[Credential]] = {}
        for credential in known.values():
            by_kid.setdefault(credential.kid, []).append(credential)
        self._by_name, self._by_kid = known, by_kid

    def _note(self, entity_id: str, credential: Credential | None) -> None:
        before = self._by_name.pop(entity_id, None)
        if before is not None:
            self._by_kid[before.kid] = [each for each in self._by_kid.get(before.kid, ()) if each != before]
            if before != credential:
                self._edits += 1
        if credential is not None:
            self._by_name[entity_id] = credential
            self._by_kid[credential.kid] = [*self._by_kid.get(credential.kid, ()), credential]


def _judged(
    connection: psycopg.Connection[Any],
    credential: Credential,
    replace: bool,
    reserved: Collection[str],
    *,
    lock: bool = False,
) -> Credential | None:
    """Return the credential that has the name now, None if there is none.

    Raises NameTaken, RegistrationRefused if `credential` may not be bound to the name.
    """
    if lock:  # two processes that give one key or name at once
        connection.execute("LOCK TABLE credential IN SHARE ROW EXCLUSIVE MODE")
    other = connection.execute(
        "SELECT entity_id FROM credential WHERE x = %s AND entity_id <> %s", (credential.x, credential.entity_id)
    ).fetchone()
    if other is not None:
        raise RegistrationRefused(
            f"the key of {credential.entity_id!r} is registered as {other[0]!r} already: "
            "give each entity a key of its own"
        )
    row = connection.execute(
        f"SELECT {_CREDENTIAL} FROM credential WHERE entity_id = %s", (credential.entity_id,)
    ).fetchone()
    present = None if row is None else Credential(*row)
    if present != credential:
        require_free(credential.entity_id, credential.role, present, replace=replace, reserved=reserved)
    return present


def _held(connection: psycopg.Connection[Any], leases: Collection[Lease]) -> set[Lease]:
    """Return those of `leases` that this process has, which no other one can claim until the commit (SEC-23)."""
    found = connection.execute(
        "SELECT shard, token FROM shard WHERE shard = ANY(%s) ORDER BY shard FOR KEY SHARE",
        ([lease.shard for lease in leases],),
    ).fetchall()
    tokens = dict(found)
    return {lease for lease in leases if not lease.lost and tokens.get(lease.shard) == lease.token}


def _applied(connection: psycopg.Connection[Any], changes: Mapping[Lease, Sequence[Change]]) -> frozenset[bytes]:
    """Make the changes, those of one kind together, and return the recipient IDs of those without effect."""
    gone: set[bytes] = set()
    ceilings: dict[bytes, tuple[int, Shard]] = {}
    places: dict[bytes, str] = {}
    for lease, wanted in changes.items():
        for change in wanted:
            match change:
                case AddContext():
                    if not _added(connection, change, lease.shard):
                        gone.add(change.recipient_id)
                case RemoveContext(recipient_id):
                    connection.execute("DELETE FROM oscore_context WHERE recipient_id = %s", (recipient_id,))
                case CountTime(seconds):
                    connection.execute(
                        "UPDATE oscore_context SET lived_s = lived_s + %s WHERE shard = %s", (seconds, lease.shard)
                    )
                case RaiseCeiling(recipient_id, ceiling):
                    ceilings[recipient_id] = max(ceiling, ceilings.get(recipient_id, (0, None))[0]), lease.shard
                case SetPlace(recipient_id, place):
                    places[recipient_id] = place
    if ceilings:
        columns = list(ceilings), [each for each, _ in ceilings.values()], [shard for _, shard in ceilings.values()]
        gone |= ceilings.keys() - _ids(connection.execute(_RAISE, columns))
    if places:
        gone |= places.keys() - _ids(connection.execute(_SET_PLACE, (list(places), list(places.values()))))
    return frozenset(gone)


def _added(connection: psycopg.Connection[Any], change: AddContext, shard: Shard) -> bool:
    credential = change.credential
    values: dict[str, Any] = {f"c{at}": value for at, value in enumerate(astuple(change.context))}
    values |= {"id": credential.entity_id, "x": credential.x, "role": credential.role}
    values |= {"replaces": list(change.replaces), "shard": shard}
    return connection.execute(_ADD, values).rowcount == 1


def _ids(cursor: psycopg.Cursor[Any]) -> set[bytes]:
    return {bytes(recipient_id) for (recipient_id,) in cursor.fetchall()}


def _notify(connection: psycopg.Connection[Any], entity_id: str) -> None:
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, entity_id))
