"""The PNs that this process works for: those whose PN GW is in a shard that it holds."""

from collections.abc import Callable

from key_servers.cpns_server.store import ServerStore
from message_plane.links.mqtt_topics import shard_of


class ServedPns:
    """Answers for each PN, many times for each change of a group, so it asks the store once for each PN."""

    def __init__(self, store: ServerStore, holds: Callable[[int], bool]) -> None:
        """`holds` returns whether this process works for a shard now."""
        self._store = store
        self._holds = holds
        self._gateway_ids: dict[str, str | None] = {}

    def __contains__(self, pn_id: str) -> bool:
        """Return True if this process works for the PN. A PN without PN GW belongs to all. Raises StoreFailed."""
        shard = self.shard_of(pn_id)
        return shard is None or self._holds(shard)

    def has_left(self, pn_id: str) -> bool:
        """Return True unless this process is known to work for the PN. It does not ask the store, which may fail now.

        A PN that is not known is looked at anew after that.
        """
        gateway_id = self._gateway_ids.get(pn_id)
        return gateway_id is None or not self._holds(shard_of(gateway_id))

    def shard_of(self, pn_id: str) -> int | None:
        """Return the shard of the PN GW that serves a PN, None if none does. Raises StoreFailed."""
        if pn_id not in self._gateway_ids:
            gateway = self._store.gateway_of(pn_id)
            self._gateway_ids[pn_id] = None if gateway is None else gateway.gateway_id
        gateway_id = self._gateway_ids[pn_id]
        return None if gateway_id is None else shard_of(gateway_id)

    def forget(self, pn_id: str) -> None:
        """Look at a PN anew, as another PN GW may serve it now; "" stands for all."""
        if pn_id:
            self._gateway_ids.pop(pn_id, None)
        else:
            self._gateway_ids.clear()
