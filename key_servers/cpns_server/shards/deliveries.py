"""The deliveries of a process as a user of shards (`holding.ShardUser`): they begin and end with their PNs' shards."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.courier import DeliveryCourier
from key_servers.cpns_server.pne_courier import PneCourier
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import ServerError
from message_plane.lease import Lease
from message_plane.links.mqtt_topics import shard_of


class ShardDeliveries:
    """Both couriers. What they have carried is in the store, so nothing is handed from one process to another."""

    def __init__(
        self,
        store: ServerStore,
        courier: DeliveryCourier,
        pne_courier: PneCourier,
        alarms: ServerAlarms,
        holds: Callable[[int], bool],
        changed: Callable[[], None],
    ) -> None:
        """`holds` returns whether this process works for a shard; `changed` is called when there may be work."""
        self._store = store
        self._courier = courier
        self._pne_courier = pne_courier
        self._alarms = alarms
        self._holds = holds
        self._changed = changed

    async def adopt(self, leases: Sequence[Lease]) -> None:
        """Look at all PNs, as those of these shards are served here from now on."""
        self._store.look_at_all()
        self._changed()

    async def let_go(self, leases: Sequence[Lease]) -> None:
        """Forget the deliveries to the PNs of these shards, and return when what they said is written or dropped."""
        self._courier.leave_unserved()
        self._pne_courier.leave_unserved()
        self._alarms.forget_unless(lambda gateway_id: self._holds(shard_of(gateway_id)))
        with suppress(ServerError):  # it is asked for again
            await self._store.lots.written()
        self._store.lots.drop_shards({lease.shard for lease in leases if lease.shard is not None})
        self._store.look_at_all()
