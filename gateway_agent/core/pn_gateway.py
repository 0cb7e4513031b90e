"""The PN GW: it accepts every CPNS message, answers it and begins the work that follows.

This module puts the parts of the core together. A process has one instance, a store has one process, and everything
runs in the thread of one event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from cpns import name_rule
from gateway_agent.core import events, receipts
from gateway_agent.core.administration import Administration
from gateway_agent.core.alarms import Alarms
from gateway_agent.core.background import Background
from gateway_agent.core.delivering.confirmations import Confirmations
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.delivering.delivery_reports import DeliveryReports
from gateway_agent.core.delivering.group_keys import GroupKeys
from gateway_agent.core.delivering.hearing import Hearing, NetworkOf
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.delivering.pulls import Pulls
from gateway_agent.core.delivering.reports import Reports
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.end_to_end.group_trust import TrustOfGroups
from gateway_agent.core.end_to_end.tunnel import Tunnel
from gateway_agent.core.events import Tell
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.groups.deleted_groups import DeletedGroups
from gateway_agent.core.groups.expulsions import Expulsions
from gateway_agent.core.groups.membership import Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.pne_messages import PneMessages
from gateway_agent.core.ports import Air, Clock, KeyMessages, RandomOctets, Signer, Unicast, Uplink
from gateway_agent.core.rates import PEERS_MAX, UPLINK_REQUESTS
from gateway_agent.core.server_messages import ServerMessages
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.store.errors import StoreDamaged
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Buckets


class PnGateway:
    """One PN GW. `administration` has the operations for persons; `counters` counts events by name, for metrics."""

    def __init__(
        self,
        *,
        pn_id: str,
        gateway_id: str,
        store: GatewayStore,
        uplink: Uplink,
        unicast: Unicast,
        air: Air,
        signer: Signer,
        clock: Clock,
        random: RandomOctets,
        policy: DeliveryPolicy,
        height: int,
        pacing: Pacing | None = None,
        counters: Counter[str] | None = None,
        key_messages: KeyMessages | None = None,
        tell: Tell = events.nobody,
        network_of: NetworkOf = lambda pne_id: "",
        is_on_bluetooth: Callable[[str], bool] = lambda pne_id: False,
        server_is_elsewhere: bool = False,
    ) -> None:
        """Build the core. In a new store the PN is created with a random PN alias.

        If `air` has no medium this PN GW does not support broadcast (CPNS-GKM-12). `height`: the tree has 2**height
        slots. `key_messages` is None if no PNE of this PN is a VAL client. `tell` is called with each event.
        `network_of` returns the name of the interface behind which a PNE is, "" if that is not known;
        `is_on_bluetooth` returns True for a PNE that was heard over Bluetooth last.
        `server_is_elsewhere`: the CPNS Server is not in this process, so that it may fall silent (SEC-28). Raises
        StoreDamaged if the store belongs to another PN or PN GW, ValueError for a `height` out of range.
        """
        self.counters: Counter[str] = Counter() if counters is None else counters
        _create_pn(store, pn_id, gateway_id, random)
        if pacing is None:
            pacing = Pacing(confirmation_cost_s=policy.leisure_ms_per_pne / 1000)
        uplink_requests = Buckets(*UPLINK_REQUESTS, PEERS_MAX)
        self._store = store
        self._background = Background()
        alarms = Alarms(gateway_id, clock, tell)
        tree = self._tree = Tree(store, random, height)
        confirmations = Confirmations(store, tree, pn_id)
        objects = BroadcastObjects(store, tree, signer)
        self._deliveries = Deliveries(
            store=store,
            confirmations=confirmations,
            objects=objects,
            unicast=unicast,
            air=air,
            clock=clock,
            policy=policy,
            pacing=pacing,
            report_due=lambda: self._housekeeping.soon(),
            counters=self.counters,
            tell=tell,
            hearing=Hearing(alarms, network_of),
            is_on_bluetooth=is_on_bluetooth,
        )
        silence = ServerSilence(
            is_elsewhere=server_is_elsewhere,
            stale_after_s=policy.stale_after_s,
            alarms=alarms,
            clock=clock,
            withhold=self._deliveries.halt,
            resume=self._deliveries.release,
            tell=tell,
        )
        versions = Versions(
            store=store,
            uplink=uplink,
            pn_id=pn_id,
            clock=clock,
            stopped=self._deliveries.halt,
            doubted=lambda: self._housekeeping.doubted(),
            silence=silence,
            alarms=alarms,
            counters=self.counters,
        )
        trust = TrustOfGroups(store=store, deliveries=self._deliveries)
        self._carried = CarriedKeys(
            pn_id=pn_id,
            store=store,
            trust=trust,
            versions=versions,
            silence=silence,
            unicast=unicast,
            uplink=uplink,
            clock=clock,
            pacing=pacing,
            report_due=lambda: self._housekeeping.soon(),
            counters=self.counters,
        )
        membership = Membership(
            store=store,
            deliveries=self._deliveries,
            uplink=uplink,
            unicast=unicast,
            clock=clock,
            policy=policy,
            uplink_requests=uplink_requests,
            revision_missing=lambda: self._housekeeping.compare_versions_soon(),
            tell=tell,
            expulsions=Expulsions(store=store, unicast=unicast, background=self._background),
            trust=trust,
            carried=self._carried,
        )
        gkdks = GkdkHandout(store=store, tree=tree, versions=versions, unicast=unicast, clock=clock)
        self._housekeeping = Housekeeping(
            store=store,
            tree=tree,
            gkdks=gkdks,
            membership=membership,
            versions=versions,
            silence=silence,
            deliveries=self._deliveries,
            reports=DeliveryReports(
                store=store, carried=self._carried, uplink=uplink, clock=clock, counters=self.counters
            ),
            unicast=unicast,
            clock=clock,
            counters=self.counters,
        )
        keys = GroupKeys(
            store=store,
            deliveries=self._deliveries,
            membership=membership,
            versions=versions,
            silence=silence,
            trust=trust,
            carried=self._carried,
            clock=clock,
            counters=self.counters,
            tell=tell,
        )
        deleted_groups = DeletedGroups(objects=objects, unicast=unicast, air=air, background=self._background)
        pulls = Pulls(
            pn_id=pn_id,
            store=store,
            keys=keys,
            trust=trust,
            gkdks=gkdks,
            deleted_groups=deleted_groups,
            uplink=uplink,
            uplink_requests=uplink_requests,
            background=self._background,
            clock=clock,
            counters=self.counters,
        )
        self._pne_messages = PneMessages(
            store=store,
            membership=membership,
            gkdks=gkdks,
            confirmations=confirmations,
            deliveries=self._deliveries,
            pulls=pulls,
            versions=versions,
            housekeeping=self._housekeeping,
            tunnel=Tunnel(store=store, uplink=uplink, clock=clock, counters=self.counters),
            carried=self._carried,
            key_messages=key_messages,
            unicast=unicast,
            clock=clock,
            counters=self.counters,
        )
        self._reports = Reports(
            store=store, confirmations=confirmations, deliveries=self._deliveries, clock=clock, counters=self.counters
        )
        self._server_messages = ServerMessages(
            store=store,
            versions=versions,
            keys=keys,
            membership=membership,
            deleted_groups=deleted_groups,
            housekeeping=self._housekeeping,
            carried=self._carried,
            background=self._background,
            counters=self.counters,
        )
        self.administration = Administration(
            pn_id=pn_id,
            gateway_id=gateway_id,
            store=store,
            tree=tree,
            membership=membership,
            gkdks=gkdks,
            objects=objects,
            deliveries=self._deliveries,
            carried=self._carried,
            versions=versions,
            silence=silence,
            housekeeping=self._housekeeping,
            alarms=alarms,
            signer=signer,
            clock=clock,
            tell=tell,
        )

    async def start(self) -> None:
        """Begin to compare versions with the Server (SEC-02, SEC-28) and to continue deliveries, in the background."""
        self._housekeeping.start()

    @property
    def failed(self) -> "asyncio.Future[BaseException]":
        """A future that is done, with the exception as its result, when the PN GW cannot go on: its process must then
        end and be started anew."""
        return self._housekeeping.failed

    @property
    def pn_alias(self) -> int:
        """The PN alias in this PN's frames on the broadcast plane (docs/protocol.md section 5)."""
        pn = self._store.pn.get()
        assert pn is not None  # `__init__` has created it
        return pn.pn_alias

    def frame_keys(self, generation: int | None = None) -> list[bytes]:
        """Return the keys of the adverts of one generation or of all, as `Tree.frame_keys` does."""
        return self._tree.frame_keys(generation)

    async def close(self) -> None:
        """Stop all work; it continues at the next start. The store stays open."""
        await self._housekeeping.close()
        await self._background.close()
        await self._carried.close()
        await self._deliveries.close()

    async def handle_pne(self, peer_id: str, message: bytes) -> bytes | None:
        """Return the answer to one message of the PNE `peer_id`, as `PneMessages.handle` does."""
        return await self._pne_messages.handle(peer_id, message)

    async def handle_server(self, message: bytes, left: asyncio.Event | None = None) -> bytes:
        """Return the answer to one message of the CPNS Server, as `ServerMessages.handle` does."""
        return await self._server_messages.handle(message, left)

    def handle_report(self, frame: bytes) -> None:
        """Process a confirmation that a broadcast medium has received, as `Reports.take` does. It is not answered."""
        self._reports.take(frame)

    async def send_key_message(self, pne_id: str, key_message: bytes) -> None:
        """Send a Key Message to a PNE that is a VAL client, as `PneMessages.send_key_message` does."""
        await self._pne_messages.send_key_message(pne_id, key_message)

    async def tick(self) -> None:
        """Do all housekeeping that is due now. After `start` this happens by itself, every minute and when needed."""
        await self._housekeeping.tick()


def _create_pn(store: GatewayStore, pn_id: str, gateway_id: str, random: RandomOctets) -> None:
    pn = store.pn.get()
    if pn is None:
        name_rule.checked(pn_id, "PN ID")
        with store.transaction():
            store.pn.create(pn_id, gateway_id, int.from_bytes(random(4), "big"))
            store.pn.set_receipt_key(random(receipts.KEY_LEN))
    elif (pn.pn_id, pn.gateway_id) != (pn_id, gateway_id):
        raise StoreDamaged(
            f"The store belongs to PN GW {pn.gateway_id} of PN {pn.pn_id}, not to {gateway_id} of {pn_id}.",
            "Correct `gateway.id` and `gateway.pn`, or use another `gateway.state_dir`.",
        )
    elif not store.pn.receipt_key():  # the store is older than receipts
        with store.transaction():
            store.pn.set_receipt_key(random(receipts.KEY_LEN))
