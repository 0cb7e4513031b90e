"""The airings of deliveries: makes the objects from the store, starts their broadcast and stops it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from cpns import beacon
from gateway_agent.core.delivering.delivery import Delivery, PneState, StartAiring
from gateway_agent.core.gkdk import gkek
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.ports import Air, Broadcast, Cost
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)


class KeyAiring:
    """One airing of a delivery, for the PNEs in `missing`."""

    def __init__(
        self, missing: frozenset[str], begin: Callable[[], Broadcast | None], ended: Callable[[bool], None]
    ) -> None:
        """`begin` is called after the transaction that runs now; it returns the broadcast, None if there is nothing to
        air. `ended` is called at the end with True if any medium has sent the object."""
        self.missing = missing
        self._begin = begin
        self._ended = ended
        self._broadcast: Broadcast | None = None
        self._handle = asyncio.get_running_loop().call_soon(self._begun)

    @property
    def has_gone_out(self) -> bool:
        """True if the object was sent on at least one medium."""
        return self._broadcast is not None and self._broadcast.has_gone_out

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the media that have sent the object, or parts of it."""
        return () if self._broadcast is None else self._broadcast.networks

    def stop(self) -> None:
        """Stop the airing: nothing is sent after this call, and `ended` is not called any more."""
        self._handle.cancel()
        if self._broadcast is not None:
            self._broadcast.stop()

    def end(self) -> None:
        """Note that all media are done, and call `ended`."""
        self._ended(self.has_gone_out)

    def _begun(self) -> None:
        try:
            self._broadcast = self._begin()
        except Exception:  # noqa: BLE001 - such as a store that cannot be read; the delivery continues by unicast
            _log.exception("KC1032 no broadcast can be made")
        if self._broadcast is None:
            self._ended(False)


class KeyAirings:
    """Airs the Group Keys and beacons of all deliveries."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        objects: BroadcastObjects,
        air: Air,
        activation: Callable[[GroupKey], int],
        counters: Counter[str],
    ) -> None:
        """`activation` returns the activation that the members are told for a key, in Unix seconds."""
        self._store = store
        self._objects = objects
        self._air = air
        self._activation = activation
        self._counters = counters
        self._made: dict[str, tuple[object, list[bytes]]] = {}

    def costs(self, sg_id: str) -> tuple[list[Cost], int]:
        """Return (cost on each medium that is up, number of datagrams) of one broadcast to the members of a group."""
        sizes = gkek.sizes(self._store, sg_id)
        return self._air.costs(sizes), len(sizes)

    def start(self, delivery: Delivery, action: StartAiring, ended: Callable[[bool], None]) -> KeyAiring:
        """Air the key of a delivery to its recipients that are not excluded, as `action` of the engine says.

        The airing begins after the transaction that runs now. `ended` is called at its end, with False if no medium
        has sent the object.
        """

        def begin() -> Broadcast | None:
            datagrams = self._datagrams(delivery, action.missing)
            listeners = 0 if action.again else len(action.missing)
            return self._air.air(datagrams, listeners, airing.end) if datagrams else None

        airing = KeyAiring(action.missing, begin, ended)
        return airing

    def beacon(self, sg_id: str, version: int) -> None:
        """Air a beacon, which tells members that unicast does not reach that there is a key to pull."""
        group, pn = self._store.inventory.group(sg_id), self._store.pn.get()
        key, tree = self._store.group_keys.get(sg_id, version), self._store.slots.current()
        if group is None or pn is None or key is None:
            return
        generation = 0 if tree is None else tree.generation
        names = (sg_id, pn.pn_alias, group.alias, generation, version)
        if self._air.beacon(sg_id, lambda: beacon.build(key.key, *names)):
            self._counters["beacons"] += 1

    def _datagrams(self, delivery: Delivery, missing: frozenset[str]) -> list[bytes]:
        """Return the signed objects, the same as before if nothing has changed; none while the key must not be sent."""
        sg_id, version = delivery.sg_id, delivery.version
        group, pn = self._store.inventory.group(sg_id), self._store.pn.get()
        key = self._store.group_keys.get(sg_id, version)
        if group is None or pn is None or group.behind or key is None:
            return []
        members = self._store.inventory.members(sg_id)
        generations = frozenset(
            member.generation for member in members if member.pne_id in missing and member.generation is not None
        )
        recipients = delivery.recipients.items()
        entitled = {pne_id for pne_id, recipient in recipients if recipient.state is not PneState.EXCLUDED}
        made_for = (version, group.membership, generations, pn.signing_epoch, activation := self._activation(key))
        if sg_id not in self._made or self._made[sg_id][0] != made_for:
            made = self._objects.group_key(group, key, activation, generations, entitled)
            self._made[sg_id] = (made_for, made)
        return self._made[sg_id][1]
