"""What the store of a gateway knows of its groups and boards, read with one query for all of each kind.

It is read anew after a commit only (`UntilCommit`), so that a look at a quiet home with many boards costs little.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cpns.in_words import version_text
from gateway_agent.observe.snapshot import DeliveryView
from gateway_agent.store.delivery_table import DeliveryCounts, KeyEvidence, StoredDelivery
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.personal_network import PneShown
from gateway_agent.store.store import GatewayStore

T = TypeVar("T")

CONFIRMED = "confirmed"
_NOBODY = DeliveryCounts(members=0, confirmed=0, unreachable=0, by_broadcast=0)


@dataclass(frozen=True, slots=True)
class StoredState:
    """What is stored about all groups and boards.

    By SG ID: `members` (PNE IDs, ascending), `deliveries` (newest first), and in `states` the state of each PNE of the
    delivery of the newest key. `confirmed`: the newest key that each PNE has confirmed, by SG ID and PNE ID. `boards`:
    by PNE ID.
    """

    groups: Sequence[ServiceGroup]
    members: Mapping[str, Sequence[str]]
    deliveries: Mapping[str, Sequence[DeliveryView]]
    states: Mapping[str, Mapping[str, str]]
    confirmed: Mapping[tuple[str, str], KeyEvidence]
    boards: Mapping[str, PneShown]


class UntilCommit(Generic[T]):
    """What `read` returns of a store, kept until the store has committed something. Calling it raises StoreFailed."""

    def __init__(self, store: GatewayStore, read: Callable[[GatewayStore], T]) -> None:
        self._store = store
        self._read = read
        self._kept: tuple[int, T] | None = None

    def __call__(self) -> T:
        commits = self._store.database.commits
        if self._kept is None or self._kept[0] != commits:
            self._kept = (commits, self._read(self._store))
        return self._kept[1]


def read(store: GatewayStore) -> StoredState:
    """Return the state of a store. Raises StoreFailed."""
    members: dict[str, list[str]] = defaultdict(list)
    for sg_id, pne_id in store.inventory.memberships():
        members[sg_id].append(pne_id)
    deliveries: dict[str, list[DeliveryView]] = defaultdict(list)
    counts = store.deliveries.counts()
    for stored in store.deliveries.all():
        deliveries[stored.sg_id].append(_view(stored, counts.get((stored.sg_id, stored.version), _NOBODY)))
    states: dict[str, dict[str, str]] = defaultdict(dict)
    confirmed = {(sg_id, pne_id): key for sg_id, pne_id, key in store.deliveries.confirmed_before()}
    for sg_id, pne_id, state, key in store.deliveries.newest():
        states[sg_id][pne_id] = state
        if state == CONFIRMED:
            confirmed[sg_id, pne_id] = key
    return StoredState(
        groups=store.inventory.groups(),
        members=members,
        deliveries=deliveries,
        states=states,
        confirmed=confirmed,
        boards=store.pn.shown(),
    )


def _view(stored: StoredDelivery, counts: DeliveryCounts) -> DeliveryView:
    return DeliveryView(
        version=stored.version,
        version_text=version_text(stored.version),
        phase=stored.phase,
        arrived_at=stored.arrived_at,
        began_at=stored.began_at,
        ended_at=stored.ended_at,
        members=counts.members,
        confirmed=counts.confirmed,
        unreachable=counts.unreachable,
        by_broadcast=counts.by_broadcast,
    )
