"""The trust of Service Groups: of which of them this PN GW must not hold a key (SEC-26)."""

from cpns import numbers
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.store.store import GatewayStore


class TrustOfGroups:
    """Stores that the keys of a group go past this PN GW. That is never taken back, also if the group is deleted."""

    def __init__(self, *, store: GatewayStore, deliveries: Deliveries) -> None:
        self._store = store
        self._deliveries = deliveries

    def is_end_to_end(self, sg_id: str) -> bool:
        """Return True if the Server has ever said so of a group of this name."""
        group = self._store.inventory.group_or_deleted(sg_id)
        return group is not None and group.end_to_end

    def learn(self, sg_id: str, trust: object) -> None:
        """Note what the Server says of a group that is stored: its Trust, None if a message has none.

        An end-to-end group keeps no key, GKEK or delivery from a time before. Called inside a transaction.
        """
        if trust == numbers.TRUST_END_TO_END and not self.is_end_to_end(sg_id):
            self._deliveries.group_deleted(sg_id)
            self._store.group_keys.delete_all(sg_id)
            self._store.inventory.set_end_to_end(sg_id)
