"""The contract of a session store: what must survive a restart, and the leases that give the right to use it.

It holds registered credentials and OSCORE contexts. All writes of a running endpoint go through `commit`, one
transaction that first checks the fencing tokens of the leases. `session_file.SessionFile` is the store of one process.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from message_plane.credentials import Credential
from message_plane.lease import Lease, Shard


@dataclass(frozen=True, slots=True, repr=False)
class StoredContext:
    """One OSCORE context on disk. It is deleted when the key that it was made with is not registered any more.

    `established`: Unix seconds, for people; `sender_ceiling`: sender numbers below it count as used; `lived_s`: its age
    in seconds of running; `place`: where the peer was heard last (`links.link.Address.place`).
    """

    recipient_id: bytes
    sender_id: bytes
    entity_id: str
    master_secret: bytes
    master_salt: bytes
    established: int
    sender_ceiling: int
    place: str | None = None
    lived_s: int = 0

    def __repr__(self) -> str:
        return f"StoredContext(recipient ID {self.recipient_id.hex()}, peer {self.entity_id!r}, <secrets>)"


@dataclass(frozen=True, slots=True)
class AddContext:
    """Add a new context, unless `credential`, with which its handshake was made, is not registered any more.

    The contexts in `replaces` (recipient IDs) are deleted in the same transaction.
    """

    context: StoredContext
    credential: Credential
    replaces: tuple[bytes, ...] = ()

    @property
    def recipient_id(self) -> bytes:
        return self.context.recipient_id

    @property
    def removes_keys(self) -> bool:
        return bool(self.replaces)


@dataclass(frozen=True, slots=True)
class RaiseCeiling:
    """Reserve the sender numbers below `ceiling`, which may be used when this is committed (SEC-22)."""

    recipient_id: bytes
    ceiling: int
    removes_keys = False


@dataclass(frozen=True, slots=True)
class SetPlace:
    """Store where the peer was when a message of it verified last."""

    recipient_id: bytes
    place: str
    removes_keys = False


@dataclass(frozen=True, slots=True)
class RemoveContext:
    """Delete a context. Does nothing if there is none."""

    recipient_id: bytes
    removes_keys = True


@dataclass(frozen=True, slots=True)
class CountTime:
    """Add `seconds` of running to the age of all contexts of the lease (SEC-36)."""

    seconds: int
    recipient_id = b""
    removes_keys = False


Change = AddContext | RaiseCeiling | SetPlace | RemoveContext | CountTime


class SessionStore(Protocol):
    """The store of one entity's sessions. It is thread-safe. Every call that writes returns when its commit is on disk.

    Every call raises StoreError if the store cannot be used.
    """

    # Registered credentials

    def bind(self, credential: Credential, *, replace: bool, reserved: Collection[str] = ()) -> bool:
        """Register `credential` if its name may be bound to its key (`binding.require_free`).

        Returns False, and changes nothing, if it is registered already. The sessions of another key of that name are
        over when this returns. Raises NameTaken, and RegistrationRefused if the key is bound to another entity ID
        (SEC-16).
        """
        ...

    def require_bindable(self, credential: Credential, *, replace: bool, reserved: Collection[str] = ()) -> bool:
        """Return True if `bind` would change something, without doing it. Raises the same as `bind`."""
        ...

    def unregister(self, entity_id: str) -> bool:
        """Delete the credential of `entity_id`, whose sessions are over afterwards. Return False if it had none."""
        ...

    def credential(self, entity_id: str) -> Credential | None:
        """Return the registered credential of `entity_id`, None if there is none."""
        ...

    def stands(self, credential: Credential) -> bool:
        """Return True while `credential` is registered under its entity ID, so that sessions made with it may be used.

        This is called several times for every message, because other processes may register and unregister, too
        (SEC-32).
        """
        ...

    def candidates(self, kid: bytes) -> list[Credential]:
        """Return all registered credentials with this kid, which is only a hint and may fit several (SEC-16)."""
        ...

    def successor(self, *, entity_id: str = "", kid: bytes = b"") -> tuple[Credential, str | None] | None:
        """Return the successor of this name, or with this kid, and its preferred SG ID; None if there is none."""
        ...

    def registered_keys(self, role: str) -> dict[str, bytes]:
        """Return the x coordinate of the public key of each registered entity of this role, by entity ID."""
        ...

    def registered(self) -> list[Credential]:
        """Return all registered credentials."""
        ...

    # Leases

    def acquire(self, owner_x: bytes) -> Lease | None:
        """Acquire the lease of all contexts for this process (SEC-23), or return None if there is one for each shard.

        Leases of shards are acquired by another part, which gives them to the endpoint (`Endpoint.adopt`). Contexts
        made under another key than that with the x coordinate `owner_x` are deleted. Raises LeaseHeld.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Release the lease. Does nothing in the store if the lease was lost."""
        ...

    def commit(self, changes: Mapping[Lease, Sequence[Change]]) -> frozenset[bytes]:
        """Make the changes of each lease in one transaction, after a check of the fencing tokens in it (SEC-23).

        A store with one lease renews it by this. If another process has taken a lease, the changes of that one are not
        made, and it is lost from then on (`Lease.lost`). Returns the recipient IDs of changes without effect, because
        the context, or the credential that it was made with, was removed in the meantime; these sessions are over.
        """
        ...

    # Contexts

    def contexts(self, shard: Shard = None) -> list[StoredContext]:
        """Return the contexts of one shard, or all, oldest first. Only the holder of their lease may use them."""
        ...

    def sessions(self, shard: Shard = None) -> list[tuple[StoredContext, Credential]]:
        """Return the same contexts, each with the credential that its handshake was made with."""
        ...

    def edition(self) -> Hashable:
        """Return a value that differs from that of the last call if another process, or a call that registers or
        removes, may have removed registrations or contexts.
        """
        ...

    def discard_contexts(self) -> None:
        """Delete all contexts, after a restore of the store or of other state of this entity (SEC-02, SEC-22)."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong with the store, "" if nothing is."""
        ...

    def probe(self) -> None:
        """Check whether trouble with the store has ended, if there is any."""
        ...

    def image(self) -> bytes:
        """Return the octets of a file for a backup, with the credentials and without contexts (SEC-02)."""
        ...

    def close(self) -> None:
        """Close the store. Leases that are held stay until `release` or their end."""
        ...
