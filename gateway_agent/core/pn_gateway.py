"""The PN GW: takes every CPNS message, answers it, and sees to what follows.

Composition of the core. One instance a process, one process a store; everything runs in one event loop's thread.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cpns import messages, name_rule, numbers, tuning, xml_form
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotMember, TooMany, Unknown
from gateway_agent.core import events, receipts, roll_over
from gateway_agent.core.alarms import Alarm, Alarms
from gateway_agent.core.background import Background
from gateway_agent.core.delivering.batch import STORE_RETRY_S
from gateway_agent.core.delivering.confirmations import Confirmations, SlotUnknown
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.delivering.group_keys import GroupKeys
from gateway_agent.core.delivering.hearing import Hearing, NetworkOf
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.delivering.pulls import Pulls
from gateway_agent.core.events import Tell
from gateway_agent.core.fields import Fields, octets, optional_number, own_id, text
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.groups.deleted_groups import DeletedGroups
from gateway_agent.core.groups.expulsions import Expulsions
from gateway_agent.core.groups.membership import Cause, Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.pairing_window import PairingWindow
from gateway_agent.core.ports import Broadcast, Clock, KeyMessages, RandomOctets, Signer, Unicast, Uplink
from gateway_agent.core.rates import PEERS_MAX, REQUESTS, UPLINK_REQUESTS
from gateway_agent.store.errors import StoreDamaged, StoreFailed
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.store import Store
from message_plane.rate import Buckets

RESPONSE_FIRST_S = 0.01
"""A delivery begins so long after its response was handed to the link (CPNS-GKM-30)."""

_AFTER_A_START = (numbers.GKDK_ASSIGNMENT_REQUEST, numbers.JOIN_REQUEST, numbers.KEY_PULL_REQUEST)

Answer = dict[int, object]


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A Service Group as a person sees it. `states`: PNEs of the newest delivery by state."""

    group: ServiceGroup
    members: tuple[str, ...]
    states: dict[str, int]


class PnGateway:
    """One PN GW. `counters` counts what happened, by name, for metrics."""

    def __init__(
        self,
        *,
        pn_id: str,
        gateway_id: str,
        store: Store,
        uplink: Uplink,
        unicast: Unicast,
        broadcast: Broadcast | None,
        signer: Signer,
        clock: Clock,
        random: RandomOctets,
        policy: DeliveryPolicy,
        pacing: Pacing | None = None,
        height: int = 10,
        counters: Counter[str] | None = None,
        key_messages: KeyMessages | None = None,
        tell: Tell = events.nobody,
        network_of: NetworkOf = lambda pne_id: "",
    ) -> None:
        """The store is created here if it is new: PN alias drawn once. Raises StoreDamaged if it is of another PN.

        `broadcast` None: this PN GW does not support broadcast (CPNS-GKM-12). `height`: 2**height slots in the tree.
        `key_messages` None: no PNE of this PN is a VAL client. `tell` hears what happens. `network_of`: behind which
        interface a PNE is, "" where nobody can tell.
        """
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._store = store
        self._unicast = unicast
        self._requests = Buckets(*REQUESTS, PEERS_MAX)
        self._key_messages = key_messages
        self._tell = tell
        self._clock = clock
        self._signer = signer
        self._background = Background()
        self._alarms = Alarms(gateway_id, clock)
        _create_pn(store, pn_id, gateway_id, random)
        self._gateway_id = gateway_id
        self._pn_id = pn_id
        self._tree = Tree(store, random, height)
        self._confirmations = Confirmations(store, self._tree, pn_id)
        self._objects = BroadcastObjects(store, self._tree, signer)
        if pacing is None:
            pacing = Pacing(confirmation_cost_s=policy.leisure_ms_per_pne / 1000)
        self._deliveries = Deliveries(
            store=store,
            confirmations=self._confirmations,
            objects=self._objects,
            unicast=unicast,
            broadcast=broadcast,
            clock=clock,
            policy=policy,
            pacing=pacing,
            report_due=lambda: self._housekeeping.soon(),
            counters=self.counters,
            tell=tell,
            hearing=Hearing(self._alarms, network_of),
        )
        self._versions = Versions(
            store=store,
            uplink=uplink,
            pn_id=pn_id,
            clock=clock,
            stopped=self._deliveries.halt,
            doubted=lambda: self._housekeeping.doubted(),
            alarms=self._alarms,
            counters=self.counters,
        )
        uplink_requests = Buckets(*UPLINK_REQUESTS, PEERS_MAX)
        self._membership = Membership(
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
        )
        self._gkdks = GkdkHandout(store=store, tree=self._tree, versions=self._versions, unicast=unicast, clock=clock)
        self._keys = GroupKeys(
            store=store,
            deliveries=self._deliveries,
            membership=self._membership,
            versions=self._versions,
            clock=clock,
            tell=tell,
        )
        self._deleted_groups = DeletedGroups(
            objects=self._objects, unicast=unicast, broadcast=broadcast, background=self._background
        )
        self._pulls = Pulls(
            pn_id=pn_id,
            store=store,
            keys=self._keys,
            gkdks=self._gkdks,
            deleted_groups=self._deleted_groups,
            uplink=uplink,
            uplink_requests=uplink_requests,
            background=self._background,
            clock=clock,
            counters=self.counters,
        )
        self._housekeeping = Housekeeping(
            store=store,
            tree=self._tree,
            gkdks=self._gkdks,
            membership=self._membership,
            versions=self._versions,
            deliveries=self._deliveries,
            uplink=uplink,
            unicast=unicast,
            clock=clock,
            counters=self.counters,
        )
        self._from_pne: dict[int, Callable[[str, Fields], Awaitable[Answer | None]]] = {
            numbers.GKDK_ASSIGNMENT_REQUEST: self._gkdk_assignment,
            numbers.GROUP_KEY_DELIVERY_RESPONSE: self._confirmation,
            numbers.JOIN_REQUEST: self._join,
            numbers.CREATE_SERVICE_GROUP_REQUEST: self._create,
            numbers.LEAVE_REQUEST: self._membership.leave,
            numbers.DELETE_SERVICE_GROUP_REQUEST: self._membership.delete,
            numbers.KEY_PULL_REQUEST: self._pulls.answer,
            numbers.KEY_MESSAGE_REQUEST: self._key_message,
        }

    async def start(self) -> None:
        """Compare versions with the Server (SEC-02, SEC-28), then continue deliveries: all in the background."""
        self._housekeeping.start()

    @property
    def failed(self) -> "asyncio.Future[BaseException]":
        """Done, with the fault, when the PN GW cannot go on and its process should end and be started anew."""
        return self._housekeeping.failed

    async def close(self) -> None:
        """Stop everything; it continues at the next start. The store stays open."""
        await self._housekeeping.close()
        await self._background.close()
        await self._deliveries.close()

    # messages

    async def handle_pne(self, peer_id: str, message: bytes) -> bytes | None:
        """Answer one message of the PNE whose credential authenticated as `peer_id`; None = empty answer.

        A refusal is a response with Result 2. Raises MalformedMessage (no CPNS message), NotAllowed (not for a PN GW,
        or naming another PNE); both for a GroupKeyDeliveryResponse, which has no response, and a KeyMessageRequest,
        whose response tells of success only, as well as what makes them unacceptable.
        """
        code, fields = messages.decode(message)
        handler = self._from_pne.get(code)
        if handler is None:
            raise NotAllowed(f"message {code} is not one a PNE sends to its PN GW")
        if messages.PNE_ID in fields:
            own_id(peer_id, fields)
        if not self._requests.take(peer_id, self._clock.monotonic()):
            self.counters["too_many"] += 1
            return _refusal(code, TooMany("too many messages; wait a minute"))
        pne = self._store.pn.pne(peer_id)
        if pne is None:  # its credential is registered, or it would not have come so far
            self._membership.register(peer_id)
        elif pne.retired:  # its session is dropped, but the disk may still hold it after a power cut
            return _refusal(code, NotAllowed(f"{peer_id} is not of this PN"))
        self._membership.runs(peer_id, fields)
        if code in _AFTER_A_START:
            self._deliveries.began(peer_id)
        try:
            answer = await handler(peer_id, fields)
        except (CpnsError, StoreFailed) as error:
            refusal = _refused(error)
            self.counters["refused"] += 1
            if code in (numbers.GROUP_KEY_DELIVERY_RESPONSE, numbers.KEY_MESSAGE_REQUEST):
                raise refusal from None
            return bytes(messages.failure(code, refusal))
        finally:
            self._housekeeping.attend(peer_id)
            if self._key_messages is not None:
                self._key_messages.seen(peer_id)
        return None if answer is None else bytes(messages.encode(code + 1, answer))

    async def handle_server(self, message: bytes) -> bytes:
        """Answer one message of the CPNS Server, in its form (CBOR or XML).

        Raises MalformedMessage, NotAllowed (not for a PN GW), and NoAnswer for an SGroupKeyDeliveryRequest whose PNE
        does not answer: its response is the PNE's alone.
        """
        form = xml_form if message[:1] == b"<" else messages
        code, fields = form.decode(message, tuning.UPLINK_MESSAGE_MAX)
        if code == numbers.S_GROUP_KEY_DELIVERY_REQUEST:
            return bytes(form.encode(*await self._forward(fields)))
        try:
            if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
                await self._versions.compared()
                answer = self._keys.accept(fields)
                sg_id = text(fields, messages.SG_ID)
                asyncio.get_running_loop().call_later(RESPONSE_FIRST_S, self._begin_delivery, sg_id)
                if self._store.inventory.is_behind(sg_id):
                    self._housekeeping.compare_versions_soon()
            elif code == numbers.INVENTORY_UPDATE_REQUEST:
                answer = self._membership.update(fields)
            elif code == numbers.DELETE_SERVICE_GROUP_REQUEST:
                deleted, members, answer = self._keys.delete_group(fields)
                if deleted is not None:
                    self._deleted_groups.tell(deleted, members)
            else:
                raise NotAllowed(f"message {code} is not one a CPNS Server sends to a PN GW")
        except (CpnsError, StoreFailed) as error:
            refusal = _refused(error)
            self.counters["server_refused"] += 1
            if code not in (
                numbers.GROUP_KEY_DELIVERY_REQUEST,
                numbers.INVENTORY_UPDATE_REQUEST,
                numbers.DELETE_SERVICE_GROUP_REQUEST,
            ):
                raise refusal from None
            failure = messages.decode(messages.failure(code, refusal))
            return bytes(form.encode(*failure))
        return bytes(form.encode(code + 1, answer))

    def _begin_delivery(self, sg_id: str) -> None:
        try:
            self._keys.begin_delivery(sg_id)
        except StoreFailed:  # an alarm says so
            asyncio.get_running_loop().call_later(STORE_RETRY_S, self._begin_delivery, sg_id)

    # PNEs that are VAL clients

    async def send_key_message(self, pne_id: str, key_message: bytes) -> None:
        """Hand a Key Message, unread, to a PNE that is a VAL client; returns when the PNE has queued it.

        Raises Unknown, NoAnswer (also where the PNE is no VAL client), MalformedMessage.
        """
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.retired:
            raise Unknown(f"there is no PNE {pne_id}")
        message = messages.encode(numbers.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: key_message})
        answer = await self._unicast.request(pne_id, message)
        if answer is None or messages.decode(answer)[0] != numbers.KEY_MESSAGE_RESPONSE:
            raise MalformedMessage("no KeyMessageResponse answers a KeyMessageRequest")

    # persons and the registrar

    def register_pne(self, pne_id: str, preferred_sg: str | None = None) -> None:
        """A PNE was provisioned or paired and knows the present signing key.

        One that was here before is retired first: a new credential gets a new slot (SEC-19). `preferred_sg`: the group
        whose neighbourhood in the tree it wants.
        """
        pne = self._store.pn.pne(pne_id)
        if pne is not None and not pne.retired:
            self.retire_pne(pne_id, Cause.NEW_CREDENTIAL)
        self._membership.register(pne_id, preferred_sg)

    def has_pne(self, pne_id: str) -> bool:
        """True if a PNE of this name is one of this PN now."""
        pne = self._store.pn.pne(pne_id)
        return pne is not None and not pne.retired

    def has_signing_key(self, pne_id: str) -> None:
        """A PNE that is here already was paired once more, and was told the present signing key with that."""
        pn = self._store.pn.get()
        if pn is not None:
            with self._store.transaction():
                self._store.pn.set_trusted_epoch(pne_id, pn.signing_epoch)

    def retire_pne(self, pne_id: str, cause: Cause) -> list[str]:
        """Lost, re-provisioned or gone: a leave from every group (SEC-06).

        Returns the SG IDs exposed until they have a newer key. Raises Unknown.
        """
        exposed = self._membership.retire(pne_id, cause)
        self._gkdks.forget(pne_id)
        self._versions.forget(pne_id)
        self._housekeeping.soon()
        return exposed

    def end_rights(self, pne_id: str) -> None:
        """A name that is none of a PNE of this PN is to have no rights at the CPNS Server either (SEC-31)."""
        self._membership.end_rights(pne_id)
        self._housekeeping.soon()

    def is_held(self, pne_id: str) -> bool:
        """True if joins and leaves of a PNE wait for `release_pne`."""
        pne = self._store.pn.pne(pne_id)
        return pne is not None and pne.held

    def release_pne(self, pne_id: str) -> None:
        """Let a held PNE join and leave again (SEC-19). Raises Unknown."""
        self._membership.release(pne_id)

    def new_generation(self) -> int:
        """Begin a generation of the tree by hand; return its number. Raises TooMany."""
        generation = self._tree.begin(self._clock.unix()).generation
        self._housekeeping.soon()
        return generation

    def open_pairing(self, pne_id: str, secret: bytes) -> PairingWindow:
        """A pairing window for the board that is called `pne_id` and shows `secret`. Raises ValueError."""
        pn = self._store.pn.get()
        return PairingWindow(
            pne_id,
            secret,
            self._clock.monotonic(),
            gateway_id=self._gateway_id,
            pn_id=self._pn_id,
            signing_key=self._signer.public_key,
            signing_epoch=pn.signing_epoch if pn else 1,
        )

    def roll_over(self, new_signer: Signer) -> int:
        """Change the broadcast signing key (SEC-18); return its epoch. The old private key is not needed any more."""
        epoch = roll_over.announce(self._store, self._signer, new_signer.public_key)
        self._signer = new_signer
        self._objects.change_signer(new_signer)
        self._housekeeping.soon()
        self._tell(events.RolledOver(epoch))
        return epoch

    @property
    def stop_reason(self) -> str | None:
        """Why broadcasts and pulls are stopped (SEC-02), None if they are not."""
        return self._versions.stop_reason

    def set_alarm(self, kind: str, text: str) -> None:
        """Raise an alarm that is found outside of the core; an empty `text` ends it."""
        if text:
            self._alarms.set(kind, text)
        else:
            self._alarms.clear(kind)

    def alarms(self) -> tuple[Alarm, ...]:
        """What a person should look at, oldest first."""
        return self._alarms.standing()

    def groups(self) -> list[GroupStatus]:
        """All Service Groups, by SG ID."""
        return [
            GroupStatus(
                group,
                tuple(member.pne_id for member in self._store.inventory.members(group.sg_id)),
                dict(self._deliveries.states(group.sg_id)),
            )
            for group in self._store.inventory.groups()
        ]

    def delivery(self, sg_id: str) -> tuple[int, dict[str, int]]:
        """The delivery of this group that runs, or ran last since the start: version (0: none), PNEs by state."""
        return self._deliveries.version(sg_id), dict(self._deliveries.states(sg_id))

    async def tick(self) -> None:
        """Do all housekeeping that is due now. `start` does this by itself, every minute and when something is due."""
        await self._housekeeping.tick()

    # one for each message of a PNE

    async def _gkdk_assignment(self, peer_id: str, fields: Fields) -> Answer:
        return self._gkdks.request(peer_id, fields)

    async def _join(self, peer_id: str, fields: Fields) -> Answer:
        return await self._membership.join(peer_id, numbers.JOIN_REQUEST, fields)

    async def _create(self, peer_id: str, fields: Fields) -> Answer:
        return await self._membership.join(peer_id, numbers.CREATE_SERVICE_GROUP_REQUEST, fields)

    async def _key_message(self, peer_id: str, fields: Fields) -> Answer:
        if self._key_messages is None:
            raise NotAllowed("no PNE of this PN is a VAL client")
        self._key_messages.take(peer_id, octets(fields, messages.KEY_MESSAGE))
        return {messages.RESULT: numbers.RESULT_SUCCESS}

    async def _confirmation(self, peer_id: str, fields: Fields) -> None:
        sg_id, version = text(fields, messages.SG_ID), optional_number(fields, messages.VERSION) or 0
        if self._store.inventory.is_member(sg_id, peer_id):
            self._versions.heard_version(peer_id, sg_id, version)
        try:
            confirmation = self._confirmations.check(peer_id, fields)
        except SlotUnknown:
            self._versions.heard_slot(peer_id)
            raise
        if not confirmation.accepted:
            self._deliveries.refused(sg_id, version, peer_id)
        elif confirmation.proven:
            self.counters["confirmations"] += 1
            await self._deliveries.confirmed(sg_id, version, peer_id)
        else:
            raise NotAllowed("a broadcast is confirmed with the proof of the slot")

    # the rest of the Server's messages

    async def _forward(self, fields: Fields) -> tuple[int, Fields]:
        """SGroupKeyDeliveryRequest to the PNE it names, and its response back (CPNS-GKM-81, -82)."""
        info = fields.get(messages.GROUP_KEY_INFO)
        if not isinstance(info, tuple):
            raise MalformedMessage("no GroupKeyInfo")
        pne = self._store.pn.pne(info[0])
        if pne is None or pne.retired:
            raise Unknown(f"there is no PNE {info[0]}")
        message = messages.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, fields)
        answer = await self._unicast.request(info[0], message)
        if answer is None:
            raise MalformedMessage("the PNE gave no response")
        code, answered = messages.decode(answer)
        if code != numbers.S_GROUP_KEY_DELIVERY_RESPONSE:
            raise MalformedMessage(f"message {code} answers an SGroupKeyDeliveryRequest")
        if answered[messages.PNID] != self._pn_id:
            raise NotMember("the PNE answers for another PN")
        return code, answered


def _refused(error: CpnsError | StoreFailed) -> CpnsError:
    """What a peer is told; of a disk that is full only that it may try again."""
    return error if isinstance(error, CpnsError) else TooMany("nothing can be stored now; try again later")


def _refusal(code: int, error: CpnsError) -> bytes:
    """The response that says so. Raises the error where there is no such response."""
    if code == numbers.GROUP_KEY_DELIVERY_RESPONSE:
        raise error
    return bytes(messages.failure(code, error))


def _create_pn(store: Store, pn_id: str, gateway_id: str, random: RandomOctets) -> None:
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
    elif not store.pn.receipt_key():  # written before there were receipts
        with store.transaction():
            store.pn.set_receipt_key(random(receipts.KEY_LEN))
