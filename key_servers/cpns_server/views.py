"""What an operator is shown of the Server and of Service Groups, read from the store and the courier; never a key."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from cpns import numbers
from cpns.errors import Unknown
from cpns.in_words import version_text
from key_servers.cpns_server.courier import DeliveryCourier
from key_servers.cpns_server.pne_courier import PneCourier
from key_servers.cpns_server.shards.all_shards import AllShards
from key_servers.cpns_server.shards.holding import ShardHolder
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import (
    BrokerStatus,
    GatewayDelivery,
    GroupState,
    GroupView,
    PneDelivery,
    ServerAlarm,
    ServerStatus,
    StoredGroup,
    StoredMember,
)
from key_servers.errors import StoreFailed

PROTECTION_NAMES = {numbers.PROTECTION_AUTHENTICATED: "authenticated", numbers.PROTECTION_SEALED: "sealed"}


class Views:
    """Shows the Server and its Service Groups."""

    def __init__(self, store: ServerStore, courier: DeliveryCourier, pne_courier: PneCourier) -> None:
        self._store = store
        self._courier = courier
        self._pne_courier = pne_courier

    def status(
        self,
        server_id: str,
        places: Iterable[str],
        brokers: tuple[BrokerStatus, ...],
        shards: AllShards | ShardHolder,
        alarms: tuple[ServerAlarm, ...],
        counters: Mapping[str, int],
    ) -> ServerStatus:
        """Return what the Server is reached by, with how much it serves."""
        gateway_count = group_count = None
        with suppress(StoreFailed):  # the rest is wanted most just then
            gateway_count = sum(not gateway.blocked for gateway in self._store.gateways())
            group_count = sum(group.state is not GroupState.DELETED for group in self._store.groups())
        return ServerStatus(
            server_id=server_id,
            listen=tuple(places),
            brokers=brokers,
            database=self._store.kind,
            shards=shards.usable,
            processes=shards.living,
            gateway_count=gateway_count,
            group_count=group_count,
            alarms=alarms,
            counters=dict(sorted(counters.items())),
        )

    def groups(self) -> tuple[GroupView, ...]:
        """Return all living Service Groups."""
        return tuple(self._view(group) for group in self._store.groups() if group.state is not GroupState.DELETED)

    def sg_ids(self) -> tuple[str, ...]:
        """Return the IDs of all living Service Groups."""
        return tuple(group.sg_id for group in self._store.groups() if group.state is not GroupState.DELETED)

    def members(self, sg_id: str) -> tuple[StoredMember, ...]:
        """Return all PNEs that have or had a relation to a Service Group."""
        return self._store.members(sg_id)

    def group(self, sg_id: str) -> GroupView:
        """Return one Service Group, even a deleted one while its PN GWs are still being told. Raise Unknown."""
        group = self._store.group(sg_id)
        if group is None:
            raise Unknown(f"there is no Service Group {sg_id}")
        return self._view(group)

    def _view(self, group: StoredGroup) -> GroupView:
        return GroupView(
            sg_id=group.sg_id,
            owner=group.owner,
            state=group.state.value,
            policy=group.policy.value,
            trust=group.trust.value,
            protection=PROTECTION_NAMES[group.protection],
            rekey_on_join=group.rekey_on_join,
            period_s=group.period_s,
            batching_s=group.batching_s,
            version=group.version,
            version_text=version_text(group.version),
            update_pending=group.pending is not None,
            key_made_at=group.key_made_at,
            members=self._store.members(group.sg_id),
            open_to=self._store.open_to(group.sg_id),
            deliveries=self._deliveries(group.sg_id),
            pne_deliveries=self._pne_deliveries(group),
        )

    def _deliveries(self, sg_id: str) -> tuple[GatewayDelivery, ...]:
        shown = []
        serving = {gateway.pn_id: gateway.gateway_id for gateway in self._store.gateways() if not gateway.blocked}
        for key, (wanted, accepted) in sorted(self._store.positions(sg_id).items()):
            pn_id, _ = key
            state = self._courier.state_of(key, wanted, accepted)
            shown.append(
                GatewayDelivery(
                    gateway_id=serving.get(pn_id, ""),
                    pn_id=pn_id,
                    state=state.name if pn_id in serving else "blocked",
                    wanted_revision=wanted.revision,
                    accepted_revision=accepted.revision,
                    wanted_version=wanted.version,
                    accepted_version=accepted.version,
                    failures=state.failures,
                )
            )
        return tuple(shown)

    def _pne_deliveries(self, group: StoredGroup) -> tuple[PneDelivery, ...]:
        shown = []
        served = {gateway.pn_id for gateway in self._store.gateways() if not gateway.blocked}
        for key, (version, position) in sorted(self._store.pne_positions(group.sg_id).items()):
            pn_id, _, pne_id = key
            state = self._pne_courier.state_of(key, version, position.version)
            named = "keyless" if self._pne_courier.is_keyless(key) else state.name
            lacks = position.version < version
            shown.append(
                PneDelivery(
                    pne_id=pne_id,
                    pn_id=pn_id,
                    way=group.trust.value,
                    state=named if pn_id in served else "blocked",
                    wanted_version=version,
                    accepted_version=position.version,
                    confirmed_at=position.confirmed_at,
                    tries=self._pne_courier.tries(key, version) if lacks else position.tries,
                    returned=position.last_return,
                    failures=state.failures,
                )
            )
        return tuple(shown)
