"""Decides which shards this process claims, uses and gives back: a state machine without I/O or clock.

The gateways of a Server are divided into SHARDS by their tags. Each shard has a row in the database with its holder, a
fencing token and the end of its lease by the clock of the database. In each round this process renews what it has and
claims more, up to its share, in one transaction; `ShardLeases.take` is then told what the database answered.

The own deadline of a lease counts from before the round was sent, and is LEASE_MARGIN shorter than the lease in the
database. So it has passed before another process may claim the shard, even if the clock of this machine runs that much
slower than that of the database, and however long this process was stopped in between.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from message_plane.lease import Lease
from message_plane.links.mqtt_topics import SHARDS

LEASE_MS = 15_000  # so long a process that is gone keeps its shards
LEASE_MARGIN = 0.1
RENEW_EVERY_S = 5.0  # two rounds may fail before a lease ends


@dataclass(frozen=True, slots=True)
class HeldShards:
    """What the database answered in one round: the tokens of the shards that this process holds, and the number of
    living processes, with this one."""

    tokens: Mapping[int, int]
    living: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What a round has changed: leases that are new, that were lost, and that are to be given back.

    Nothing may be sent for a lease that was lost. A lease that is to be given back stays valid until `given_back`.
    `unreleased`: leases that were given back before and that the database does not know to be free.
    """

    adopted: tuple[Lease, ...]
    lost: tuple[Lease, ...]
    surplus: tuple[Lease, ...]
    unreleased: tuple[Lease, ...]


def share(living: int) -> int:
    """Return how many shards one of `living` processes may hold: its part of all, rounded up."""
    return -(-SHARDS // max(living, 1))


class ShardLeases:
    """The leases of one process. A lease that has ended, given back or lost, is never used again."""

    def __init__(self, *, all_of_them: bool = False) -> None:
        """`all_of_them`: this process claims every shard and gives none back to others."""
        self._all = all_of_them
        self._held: dict[int, Lease] = {}
        self._leaving: set[int] = set()
        self._ended: dict[int, Lease] = {}  # the last one of each shard

    @property
    def held(self) -> Collection[Lease]:
        """All leases that this process holds, also those that it is about to give back."""
        return tuple(self._held.values())

    def wanted(self, living: int) -> int:
        """Return how many shards to claim in this round, if there are so many without a holder."""
        return max(self._share(living) - len(self._staying()), 0)

    def take(self, found: HeldShards, sent_ms: int) -> Changes:
        """Take note of the answer to a round that was sent at `sent_ms` (milliseconds since boot).

        A shard that the database names is held, even if the round that claimed it seemed to fail.
        """
        lost = [lease for shard, lease in self._held.items() if found.tokens.get(shard) != lease.token]
        for lease in lost:
            self.given_back(lease)
        valid_until_ms = sent_ms + int(LEASE_MS * (1 - LEASE_MARGIN))
        adopted, unreleased = [], []
        for shard, token in sorted(found.tokens.items()):
            ended = self._ended.get(shard)
            if shard in self._held:
                self._held[shard].valid_until_ms = valid_until_ms
            elif ended is not None and token <= ended.token:
                unreleased.append(ended)
            else:
                self._held[shard] = Lease(token, valid_until_ms, shard)
                adopted.append(self._held[shard])
        surplus = self._staying()[self._share(found.living) :]
        self._leaving.update(surplus)
        return Changes(tuple(adopted), tuple(lost), tuple(self._held[shard] for shard in surplus), tuple(unreleased))

    def leave(self) -> tuple[Lease, ...]:
        """Return the leases that are to be given back because this process ends, besides those that are already."""
        staying = self._staying()
        self._leaving.update(staying)
        return tuple(self._held[shard] for shard in staying)

    def given_back(self, lease: Lease) -> None:
        """Note that a lease ends now, before the database is told so: nothing is sent for it any more."""
        lease.lose()
        for shard, held in list(self._held.items()):
            if held is lease:
                del self._held[shard]
                self._leaving.discard(shard)
                self._ended[shard] = lease

    def _share(self, living: int) -> int:
        return SHARDS if self._all else share(living)

    def _staying(self) -> list[int]:
        """Return the shards that this process is to keep, the lowest first."""
        return sorted(self._held.keys() - self._leaving)
