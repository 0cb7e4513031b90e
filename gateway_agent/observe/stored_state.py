"""What the store of a gateway knows of its groups and boards, read with one query for all of each kind."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpns.in_words import version_text
from gateway_agent.observe.snapshot import DeliveryView
from gateway_agent.store.delivery_table import DeliveryCounts, NewestConfirmed, StoredDelivery
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.personal_network import PneShown
from gateway_agent.store.store import GatewayStore

_NOBODY = DeliveryCounts(members=0, confirmed=0, unreachable=0, by_broadcast=0)


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state after the commit of this number.

    By SG ID: `members` (PNE IDs, ascending), `deliveries` (newest first), and in `states` the state of each PNE of the
    delivery of the newest key. `confirmed`: the newest key that each PNE has confirmed, by SG ID and PNE ID. `boards`:
    by PNE ID.
    """

    commits: int
    groups: Sequence[ServiceGroup]
    members: Mapping[str, Sequence[str]]
    deliveries: Mapping[str, Sequence[DeliveryView]]
    states: Mapping[str, Mapping[str, str]]
    confirmed: Mapping[tuple[str, str], NewestConfirmed]
    boards: Mapping[str, PneShown]


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
    for sg_id, pne_id, state in store.deliveries.newest_states():
        states[sg_id][pne_id] = state
    return StoredState(
        commits=store.database.commits,
        groups=store.inventory.groups(),
        members=members,
        deliveries=deliveries,
        states=states,
        confirmed=store.deliveries.newest_confirmed(),
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
