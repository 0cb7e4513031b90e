"""The right of a process to use OSCORE contexts (SEC-23): one lease for all of them, or one for those of each shard.

Several processes may share one store of sessions. Each context belongs to one shard, and only the process that holds
the lease of that shard may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from message_plane import holder
from message_plane.errors import LeaseLost

LEASE_MS = 10_000  # of a store with one lease: a process that is stopped longer than this may lose it

TAKEN_OVER = "another process has taken over these sessions: this one ends its use of them"

Shard = int | None
"""The number of a shard; None for all contexts of a store that has no shards."""


class Lease:
    """The right of this process to use the contexts of `shard`, until `valid_until_ms` (milliseconds since boot).

    `token` is the fencing token: each new holder gets a higher one, and every write checks it.
    """

    def __init__(self, token: int, valid_until_ms: int, shard: Shard = None) -> None:
        self.token = token
        self.valid_until_ms = valid_until_ms
        self.shard = shard
        self.lost = False

    @property
    def valid(self) -> bool:
        """False if another process may have taken the lease. It is cheap, as it is checked before each send."""
        return not self.lost and holder.boot_milliseconds() < self.valid_until_ms

    def require(self) -> None:
        """Raise LeaseLost unless the lease is valid."""
        if self.lost:
            raise LeaseLost(TAKEN_OVER)
        if not self.valid:
            raise LeaseLost("the lease of the sessions has lapsed: it must be renewed before anything is sent")

    @property
    def renewable(self) -> bool:
        """True if this process can renew a lapsed lease when it needs it: it is the only one of its store, not lost.

        The lease of a shard is renewed by its holder only.
        """
        return self.shard is None and not self.lost

    def lose(self) -> None:
        """Note that this process has given the lease back, or that another process has taken it over."""
        self.lost = True


class Leases:
    """The leases that this process holds, by shard. `shard_of` returns the shard of the entity with this ID."""

    def __init__(self, shard_of: Callable[[str], Shard] = lambda entity_id: None) -> None:
        self.shard_of = shard_of
        self._held: dict[Shard, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._held.values()))

    @property
    def any_valid(self) -> bool:
        """True if this process may use any context now."""
        return any(lease.valid for lease in self._held.values())

    def of(self, entity_id: str) -> Lease:
        """Return the lease of the shard of this entity. Raises LeaseLost if this process does not hold it."""
        lease = self._held.get(self.shard_of(entity_id))
        if lease is None:
            raise LeaseLost(f"another process has the sessions of {entity_id!r}")
        return lease

    def add(self, lease: Lease) -> None:
        """Add a lease that this process has acquired, in place of an earlier one of its shard."""
        self._held[lease.shard] = lease

    def remove(self, lease: Lease) -> None:
        """Remove a lease that was lost or is to be given back, unless a newer one of its shard is held."""
        if self._held.get(lease.shard) is lease:
            del self._held[lease.shard]
