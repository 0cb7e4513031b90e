"""The session store of an entity that runs in one process: a SQLite file with one lease for all contexts.

Only its owner can read it; commits are synced, and deletions overwritten.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

from message_plane import holder
from message_plane.binding import require_free
from message_plane.credentials import ROLE_PNE, Credential
from message_plane.errors import FAULTS, LeaseHeld, RegistrationRefused
from message_plane.lease import LEASE_MS, Lease, Shard
from message_plane.session_store import (
    AddContext,
    Change,
    CountTime,
    RaiseCeiling,
    RemoveContext,
    SetPlace,
    StoredContext,
)
from private_store.migrations import scripts
from private_store.sqlite_file import SqliteFile

BUSY_TIMEOUT_S = 5.0


class SessionFile:
    """The file of sessions. Several processes may open it, but only the holder of the lease may use contexts.

    It is thread-safe. Every call that writes returns after its commit is on disk.
    """

    def __init__(self, path: str | Path, remedy: str = "Put back a backup, or pair again.") -> None:
        """Open or create the file at `path`, mode 0600.

        Raises StoreError; `remedy` is the next step in its text if the file is damaged or missing.
        """
        self.path = Path(path)
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._edits = 0
        self._standing: dict[str, Credential] = {}  # known to be registered at data version `_standing_since`
        self._standing_since = 0
        self._file = SqliteFile(
            self.path,
            scripts("message_plane.migrations"),
            holds="sessions",
            remedy=remedy,
            faults=FAULTS,
            busy_timeout_s=BUSY_TIMEOUT_S,
        )
        self._database = self._file.connection
        try:
            # Look-ups have a connection of their own, so that they do not wait for a commit to a slow disk.
            with self._told():
                self._view = self._file.connect()
                self._view.execute("PRAGMA query_only = ON").fetchall()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file. The lease, if held, stays until `release` or its end."""
        with self._writing, self._reading:
            self._view.close()
            self._file.close()

    # Registered credentials

    def bind(
        self, credential: Credential, *, replace: bool, reserved: Collection[str] = (), pairing: bool = False
    ) -> bool:
        """Register `credential` if its name may be bound to its key (`binding.require_free`).

        Returns False, and changes nothing, if it is registered already. `pairing`: the board may not know yet that it
        was admitted, so it is one of `pairings` until `set_paired`. A successor that waits for this name is forgotten.
        Raises NameTaken, and RegistrationRefused if the key is bound to another entity ID (SEC-16), StoreError.
        """
        with self._transaction(removes_keys=True) as database:
            present = self._judged(database, credential, replace, reserved)
            if present == credential:
                return False
            self._register(database, credential, pairing)
        self._edits += 1
        return True

    def require_bindable(self, credential: Credential, *, replace: bool, reserved: Collection[str] = ()) -> bool:
        """Return True if `bind` would change something, without doing it. Raises the same as `bind`."""
        with self._reader() as view:
            return self._judged(view, credential, replace, reserved) != credential

    def name_successor(self, credential: Credential, preferred_sg: str | None) -> None:
        """Store the credential of a PNE that gets its name, which another key has, when it is first heard (SEC-33).

        It takes the place of another successor of this name. `preferred_sg` is kept for `successor`. This does not
        check whether the name may be replaced (`require_bindable`). Raises RegistrationRefused if the key is bound to
        another entity ID (SEC-16), StoreError.
        """
        with self._transaction(removes_keys=True) as database:
            self._require_own_key(database, credential)
            database.execute(
                "INSERT OR REPLACE INTO successor (entity_id, x, ccs, kid, preferred_sg) VALUES (?, ?, ?, ?, ?)",
                (credential.entity_id, credential.x, credential.ccs, credential.kid, preferred_sg),
            )

    def successor(self, *, entity_id: str = "", kid: bytes = b"") -> tuple[Credential, str | None] | None:
        """Return the successor of this name, or with this kid, and its preferred SG ID; None if there is none."""
        with self._reader() as view:
            row = view.execute(
                "SELECT entity_id, x, ccs, kid, preferred_sg FROM successor WHERE entity_id = ? OR kid = ?",
                (entity_id, kid),
            ).fetchone()
        return None if row is None else (Credential(row[0], ROLE_PNE, *row[1:4]), row[4])

    def forget_successor(self, entity_id: str) -> None:
        """Delete the successor of this name, if there is one."""
        with self._transaction(removes_keys=True) as database:
            database.execute("DELETE FROM successor WHERE entity_id = ?", (entity_id,))

    def register(self, credential: Credential) -> None:
        """Register `credential` in place of an earlier one of its entity ID, whose sessions are over when this returns.

        This does not check whether the name is free; requests of persons must use `bind`. Raises RegistrationRefused if
        the key is bound to another entity ID (SEC-16), StoreError.
        """
        with self._transaction(removes_keys=True) as database:
            self._require_own_key(database, credential)
            if credential == self._credential(database, credential.entity_id):
                return
            self._register(database, credential, False)
        self._edits += 1

    def pairings(self) -> set[str]:
        """Return the entity IDs that were registered by pairing and may not know it yet (`set_paired`)."""
        with self._reader() as view:
            return {row[0] for row in view.execute("SELECT entity_id FROM credential WHERE pairing").fetchall()}

    def set_paired(self, entity_id: str) -> None:
        """Note that `entity_id` knows that it was registered."""
        with self._transaction() as database:
            database.execute("UPDATE credential SET pairing = 0 WHERE entity_id = ?", (entity_id,))

    def unregister(self, entity_id: str) -> bool:
        """Delete the credential of `entity_id`, whose sessions are over afterwards. Return False if it had none."""
        with self._transaction(removes_keys=True) as database:
            known = database.execute("DELETE FROM credential WHERE entity_id = ?", (entity_id,)).rowcount > 0
        self._edits += 1
        return known

    def credential(self, entity_id: str) -> Credential | None:
        """Return the registered credential of `entity_id`, None if there is none."""
        with self._reader() as view:
            return self._credential(view, entity_id)

    def stands(self, credential: Credential) -> bool:
        """Return True while `credential` is registered under its entity ID, so that sessions made with it may be used.

        This is called several times for every message, because other processes may register and unregister, too
        (SEC-32). To be cheap, it asks the file each time whether any process has committed anything since, which costs
        half as much as a look-up, and looks each credential up once between two commits.
        """
        with self._reading:
            try:
                ((version,),) = self._view.execute("PRAGMA data_version")
                if version != self._standing_since:
                    self._standing.clear()
                    self._standing_since = version
                if self._standing.get(credential.entity_id) is credential:
                    return True
                stands = _stands(self._view, credential)
            except sqlite3.Error as error:
                raise self._file.failed(error) from error
            if stands:
                self._standing[credential.entity_id] = credential
            return stands

    def candidates(self, kid: bytes) -> list[Credential]:
        """Return all registered credentials with this kid, which is only a hint and may fit several (SEC-16)."""
        with self._reader() as view:
            rows = view.execute(
                "SELECT entity_id, role, x, ccs, kid FROM credential WHERE kid = ? ORDER BY entity_id", (kid,)
            ).fetchall()
        return [Credential(*row) for row in rows]

    def registered_keys(self, role: str) -> dict[str, bytes]:
        """Return the x coordinate of the public key of each registered entity of this role, by entity ID."""
        with self._reader() as view:
            return dict(view.execute("SELECT entity_id, x FROM credential WHERE role = ?", (role,)).fetchall())

    def registered(self) -> list[Credential]:
        """Return all registered credentials."""
        with self._reader() as view:
            rows = view.execute("SELECT entity_id, role, x, ccs, kid FROM credential").fetchall()
        return [Credential(*row) for row in rows]

    # The lease

    def acquire(self, owner_x: bytes) -> Lease:
        """Acquire the lease for this process (SEC-23), for the entity whose public x coordinate is `owner_x`.

        The lease can be acquired, with a new fencing token, if it is free, held by a process that is gone, or not
        renewed for LEASE_MS. Contexts made under another key than `owner_x` are deleted. Raises LeaseHeld, StoreError.
        """
        now = holder.boot_milliseconds()
        with self._transaction(removes_keys=True) as database:
            token, other, expires, stored_x = database.execute(
                "SELECT token, holder, expires, owner_x FROM lease"
            ).fetchone()
            if other is not None and holder.same_boot(other) and now < expires and not holder.certainly_gone(other):
                raise LeaseHeld(f"another process uses the sessions in {self.path}: stop it first")
            if stored_x is not None and stored_x != owner_x:
                database.execute("DELETE FROM oscore_context")
            database.execute(
                "UPDATE lease SET token = ?, holder = ?, expires = ?, owner_x = ?",
                (token + 1, holder.this_process(), now + LEASE_MS, owner_x),
            )
        return Lease(token + 1, now + LEASE_MS)

    def release(self, lease: Lease) -> None:
        """Release the lease. Does nothing in the file if the lease was lost."""
        lease.lose()
        with self._transaction() as database:
            database.execute("UPDATE lease SET holder = NULL, expires = 0 WHERE token = ?", (lease.token,))

    def commit(self, changes: Mapping[Lease, Sequence[Change]]) -> frozenset[bytes]:
        """Renew the lease and make its changes, all or none of them; they are on disk when this returns.

        Returns the recipient IDs of changes without effect (`SessionStore.commit`). Raises StoreError.
        """
        ((lease, wanted),) = changes.items()
        now = holder.boot_milliseconds()
        gone = set()
        with self._transaction() as database:
            if database.execute("SELECT token FROM lease").fetchone()[0] != lease.token:
                lease.lose()
                return frozenset()
            database.execute("UPDATE lease SET expires = ?", (now + LEASE_MS,))
            for change in wanted:
                if not _apply(database, change):
                    gone.add(change.recipient_id)
                if change.removes_keys:
                    self._file.erase_after_commit()
        lease.valid_until_ms = now + LEASE_MS
        return frozenset(gone)

    # Contexts

    def contexts(self, shard: Shard = None) -> list[StoredContext]:
        """Return all contexts, oldest first, as a file has no shards. Only the holder of the lease may use them."""
        return [stored for stored, _ in self.sessions(shard)]

    def sessions(self, shard: Shard = None) -> list[tuple[StoredContext, Credential]]:
        """Return the same contexts, each with the credential that its handshake was made with."""
        with self._reader() as view:
            rows = view.execute(
                "SELECT recipient_id, sender_id, entity_id, master_secret, master_salt, established, sender_ceiling,"
                " place, lived_s, role, x, ccs, kid FROM oscore_context JOIN credential USING (entity_id, x)"
                " ORDER BY oscore_context.rowid"
            ).fetchall()
        return [(StoredContext(*row[:9]), Credential(row[2], *row[9:])) for row in rows]

    def edition(self) -> tuple[int, int]:
        """Return a value that differs from that of the last call if another process, or a call that registers or
        removes, may have removed registrations or contexts.
        """
        with self._writing, self._told():
            return int(self._database.execute("PRAGMA data_version").fetchone()[0]), self._edits

    def discard_contexts(self) -> None:
        """Delete all contexts, after a restore of the file or of other state of this entity (SEC-02, SEC-22)."""
        with self._transaction(removes_keys=True) as database:
            database.execute("DELETE FROM oscore_context")
        self._edits += 1

    @property
    def trouble(self) -> str:
        """What is wrong with the medium, "" if nothing is (`private_store.sqlite_file`)."""
        return self._file.trouble

    def probe(self) -> None:
        """Check whether trouble with the medium has ended, if there is any."""
        if self._file.trouble:
            with self._writing:
                self._file.probe()

    def image(self) -> bytes:
        """Return the octets of a copy of the file for a backup, with the credentials and without contexts (SEC-02).

        It is without successors too: one that has had its name and lost it since must not get it again.
        """
        with self._writing:
            return self._file.image(
                "DELETE FROM oscore_context",
                "DELETE FROM successor",
                "UPDATE lease SET holder = NULL, expires = 0",
            )

    # Private

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of SQLite into a StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._file.failed(error) from error

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._reading, self._told():
            yield self._view

    @contextmanager
    def _transaction(self, *, removes_keys: bool = False) -> Iterator[sqlite3.Connection]:
        """Enter a transaction. `removes_keys`: deleted keys are left in neither the file nor its log (SEC-29)."""
        with self._writing, self._told(), self._file.transaction():
            if removes_keys:
                self._file.erase_after_commit()
            yield self._database

    def _judged(
        self, database: sqlite3.Connection, credential: Credential, replace: bool, reserved: Collection[str]
    ) -> Credential | None:
        """Return the credential that has the name now, None if there is none.

        Raises NameTaken, RegistrationRefused if `credential` may not be bound to the name.
        """
        self._require_own_key(database, credential)
        present = self._credential(database, credential.entity_id)
        if present != credential:
            require_free(credential.entity_id, credential.role, present, replace=replace, reserved=reserved)
        return present

    @staticmethod
    def _require_own_key(database: sqlite3.Connection, credential: Credential) -> None:
        row = database.execute(
            "SELECT entity_id FROM credential WHERE x = :x AND entity_id != :name"
            " UNION SELECT entity_id FROM successor WHERE x = :x AND entity_id != :name",
            {"x": credential.x, "name": credential.entity_id},
        ).fetchone()
        if row is not None:
            raise RegistrationRefused(
                f"the key of {credential.entity_id!r} is registered as {row[0]!r} already: "
                "give each entity a key of its own"
            )

    @staticmethod
    def _register(database: sqlite3.Connection, credential: Credential, pairing: bool) -> None:
        database.execute("DELETE FROM successor WHERE entity_id = ?", (credential.entity_id,))
        database.execute("DELETE FROM credential WHERE entity_id = ?", (credential.entity_id,))
        database.execute(
            "INSERT INTO credential (entity_id, role, x, ccs, kid, pairing) VALUES (?, ?, ?, ?, ?, ?)",
            (credential.entity_id, credential.role, credential.x, credential.ccs, credential.kid, pairing),
        )

    @staticmethod
    def _credential(database: sqlite3.Connection, entity_id: str) -> Credential | None:
        row = database.execute(
            "SELECT entity_id, role, x, ccs, kid FROM credential WHERE entity_id = ?", (entity_id,)
        ).fetchone()
        return None if row is None else Credential(*row)


def _stands(database: sqlite3.Connection, credential: Credential) -> bool:
    found = database.execute(
        "SELECT 1 FROM credential WHERE entity_id = ? AND x = ? AND role = ?",
        (credential.entity_id, credential.x, credential.role),
    )
    return found.fetchone() is not None


def _apply(database: sqlite3.Connection, change: Change) -> bool:
    """Make one change inside the open transaction; return False if its context or credential was removed."""
    match change:
        case AddContext(context, credential, replaces):
            if not _stands(database, credential):
                return False
            for recipient_id in replaces:
                database.execute("DELETE FROM oscore_context WHERE recipient_id = ?", (recipient_id,))
            database.execute(
                "INSERT INTO oscore_context (recipient_id, sender_id, entity_id, master_secret, master_salt,"
                " established, sender_ceiling, place, lived_s, x) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*astuple(context), credential.x),
            )
            return True
        case RaiseCeiling(recipient_id, ceiling):
            statement = "UPDATE oscore_context SET sender_ceiling = max(sender_ceiling, ?) WHERE recipient_id = ?"
            return database.execute(statement, (ceiling, recipient_id)).rowcount == 1
        case SetPlace(recipient_id, place):
            statement = "UPDATE oscore_context SET place = ? WHERE recipient_id = ?"
            return database.execute(statement, (place, recipient_id)).rowcount == 1
        case RemoveContext(recipient_id):
            database.execute("DELETE FROM oscore_context WHERE recipient_id = ?", (recipient_id,))
            return True
        case CountTime(seconds):
            database.execute("UPDATE oscore_context SET lived_s = lived_s + ?", (seconds,))
            return True
