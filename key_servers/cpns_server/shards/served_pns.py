"""Which PN GW serves a PN, and the PNs that this process works for: those whose PN GW is in a shard that it holds."""

from collections.abc import Callable

from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import StoredGateway
from message_plane.links.mqtt_topics import shard_of


class ServedPns:
    """Answers for each PN many times for each change of a group, so it asks the store once for all of them."""

    def __init__(self, store: ServerStore, holds: Callable[[int], bool]) -> None:
        """`holds` returns whether this process works for a shard now."""
        self._store = store
        self._holds = holds
        self._touched = store.follow()
        self._gateways: dict[str, StoredGateway | None] = {}

    def __contains__(self, pn_id: str) -> bool:
        """Return True if this process works for the PN. A PN without PN GW belongs to all. Raises StoreFailed."""
        shard = self.shard_of(pn_id)
        return shard is None or self._holds(shard)

    def has_left(self, pn_id: str) -> bool:
        """Return True unless this process is known to work for the PN. It does not ask the store, which may fail now.

        A PN that is not known is looked at anew after that.
        """
        gateway = self._gateways.get(pn_id)
        return gateway is None or not self._holds(shard_of(gateway.gateway_id))

    def shard_of(self, pn_id: str) -> int | None:
        """Return the shard of the PN GW that serves a PN, None if none does. Raises StoreFailed."""
        gateway = self.gateway_of(pn_id)
        return None if gateway is None else shard_of(gateway.gateway_id)

    def gateway_of(self, pn_id: str) -> StoredGateway | None:
        """Return the PN GW that serves the PN now, None if none does. Raises StoreFailed."""
        for part in list(self._touched):
            sg_id, changed = part
            if not changed and not sg_id:
                self._gateways = {each.pn_id: each for each in self._store.gateways() if not each.blocked}
            elif not sg_id:  # what names a group is about its members and keys
                self._gateways.pop(changed, None)
            del self._touched[part]
        if pn_id not in self._gateways:
            self._gateways[pn_id] = self._store.gateway_of(pn_id)
        return self._gateways[pn_id]
