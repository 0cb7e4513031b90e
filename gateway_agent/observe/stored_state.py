"""What the store of a gateway knows of its groups and boards.

Each query reads all groups, or those about which something was written since the last look, so that a look at a quiet
home with many boards costs little (`store.written_rows.UntilWritten`).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cpns.in_words import version_text
from gateway_agent.observe.snapshot import DeliveryView
from gateway_agent.store.delivery_table import DeliveryCounts, KeyEvidence, StoredDelivery
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.store import GatewayStore

CONFIRMED = "confirmed"
_NOBODY = DeliveryCounts(members=0, confirmed=0, unreachable=0, by_broadcast=0)


@dataclass(frozen=True, slots=True)
class StoredGroupState:
    """What is stored about one Service Group.

    `members`: PNE IDs, ascending; `deliveries`: newest first; by PNE ID, `states`: the state in the delivery of the
    newest key, and `confirmed`: the newest key that the PNE has confirmed.
    """

    group: ServiceGroup
    members: Sequence[str] = ()
    deliveries: Sequence[DeliveryView] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    confirmed: Mapping[str, KeyEvidence] = field(default_factory=dict)

    @property
    def gets_keys(self) -> bool:
        """False if it is certain that no board of this PN is a member: the Server sends no key of the group then."""
        return bool(self.members) or not self.group.listed


def read(store: GatewayStore, sg_ids: Collection[str] | None = None) -> dict[str, StoredGroupState]:
    """Return the Service Groups that are not deleted, or those of these, by SG ID, ascending. Raises StoreFailed."""
    members: dict[str, list[str]] = defaultdict(list)
    for sg_id, pne_id in store.inventory.memberships(sg_ids):
        members[sg_id].append(pne_id)
    deliveries: dict[str, list[DeliveryView]] = defaultdict(list)
    counts = store.deliveries.counts(sg_ids)
    for stored in store.deliveries.all(sg_ids):
        deliveries[stored.sg_id].append(_view(stored, counts.get((stored.sg_id, stored.version), _NOBODY)))
    states: dict[str, dict[str, str]] = defaultdict(dict)
    confirmed: dict[str, dict[str, KeyEvidence]] = defaultdict(dict)
    for sg_id, pne_id, key in store.deliveries.confirmed_before(sg_ids):
        confirmed[sg_id][pne_id] = key
    for sg_id, pne_id, state, key in store.deliveries.newest(sg_ids):
        states[sg_id][pne_id] = state
        if state == CONFIRMED:
            confirmed[sg_id][pne_id] = key
    return {
        group.sg_id: StoredGroupState(
            group,
            members.get(group.sg_id, ()),
            tuple(deliveries.get(group.sg_id, ())),
            states.get(group.sg_id, {}),
            confirmed.get(group.sg_id, {}),
        )
        for group in store.inventory.groups(sg_ids)
    }


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
