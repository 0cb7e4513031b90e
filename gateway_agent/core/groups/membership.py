"""Membership of Service Groups: joins, creations, leaves, lists of the Server, and retirements.

Each change is one transaction: it covers members, GKEK (CPNS-GKM-27), exposure, and the running delivery, which must
not send to removed members any more (SEC-06). Requests to the Server about one group are made one after the other, so
that revisions arrive in order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum

from cpns import messages, name_rule, numbers
from cpns.errors import CpnsError, NotAllowed, Stale, TooMany, Unknown
from gateway_agent.core import events
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.delivering.policy import DeliveryPolicy, leisure_ms
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.end_to_end.group_trust import TrustOfGroups
from gateway_agent.core.events import Tell
from gateway_agent.core.fields import Fields, listed, number, optional_number, own_id, text
from gateway_agent.core.gkdk import gkek
from gateway_agent.core.groups.expulsions import Expulsions
from gateway_agent.core.ports import Clock, Unicast, Uplink
from gateway_agent.core.rates import (
    FIRST_JOINS,
    MEMBERSHIP_CHANGES_PER_HOUR,
    SOFTWARE_CHANGES_PER_HOUR,
    Rate,
)
from gateway_agent.core.server_requests import ask
from gateway_agent.core.turns import Turns
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.personal_network import PersonalNetwork
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Buckets


class Cause(StrEnum):
    """Why a PNE is retired (Q-10)."""

    LOST = "lost"
    NEW_CREDENTIAL = "new credential"


class Membership:
    """Changes the members of Service Groups, on behalf of PNEs, the Server and persons."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        deliveries: Deliveries,
        uplink: Uplink,
        unicast: Unicast,
        clock: Clock,
        policy: DeliveryPolicy,
        uplink_requests: Buckets,
        revision_missing: Callable[[], None],
        tell: Tell,
        expulsions: Expulsions,
        trust: TrustOfGroups,
        carried: CarriedKeys,
    ) -> None:
        """`uplink_requests` limits how often the Server is asked on behalf of one PNE.

        `revision_missing` is called when the Server has named a revision of the membership that is not stored here.
        """
        self._store = store
        self._deliveries = deliveries
        self._uplink = uplink
        self._unicast = unicast
        self._clock = clock
        self._policy = policy
        self._changes = Rate(MEMBERSHIP_CHANGES_PER_HOUR)
        self._software_changes = Rate(SOFTWARE_CHANGES_PER_HOUR)
        self._first_joins: defaultdict[str, set[str]] = defaultdict(set)
        self._uplink_requests = uplink_requests
        self._revision_missing = revision_missing
        self._expulsions = expulsions
        self._trust = trust
        self._carried = carried
        self._turns = Turns()
        self._unasked_leaves: set[tuple[str, str]] = set()  # (SG ID, PNE ID) of leaves that were not sent yet
        self._retirement_turns = Turns()
        self._retired: Counter[str] = Counter()  # how often each name was retired since the start
        self._tell = tell

    # from a PNE

    async def join(self, peer_id: str, code: int, fields: Fields) -> dict[int, object]:
        """Handle a JoinRequest or CreateServiceGroupRequest, as `code` says: ask the Server and store the result.

        Returns the fields of the response. Raises NotAllowed, TooMany, Stale, NoAnswer, and ServerRefused with the
        Server's error.
        """
        pne_id, sg_id = own_id(peer_id, fields), text(fields, messages.SG_ID)
        if not self._store.inventory.is_member(sg_id, pne_id):
            self._count_change(pne_id, sg_id)
        self._store.inventory.room_for(sg_id)  # before the Server admits a member to a group that no frame can name
        self._count_uplink_request(pne_id)
        retired = self._retired[pne_id]
        while True:
            await self._end_rights_of_before(pne_id)
            async with self._turns.of(sg_id):
                if self._store.pn.has_pending_leave(sg_id, pne_id):
                    continue  # an earlier owner of the name was admitted while this request waited
                answer = await ask(self._uplink, code, {**fields, messages.PN_ID: self._pn().pn_id})
                if self._retired[pne_id] != retired:  # it was retired meanwhile: the name may be another board's by now
                    with self._store.transaction():
                        self._store.pn.add_pending_leave(sg_id, pne_id)
                    raise NotAllowed(f"{pne_id} is not of this PN")
                return self._joined(pne_id, sg_id, answer)

    async def leave(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Handle a LeaveRequest: ask the Server, store, return the response's fields. Raises the same as `join`."""
        pne_id, sg_id = own_id(peer_id, fields), text(fields, messages.SG_ID)
        self._count_change(pne_id)
        self._count_uplink_request(pne_id)
        async with self._turns.of(sg_id):
            request = {messages.PNE_ID: pne_id, messages.SG_ID: sg_id, messages.PN_ID: self._pn().pn_id}
            answer = await ask(self._uplink, numbers.LEAVE_REQUEST, request)
            self._deliveries.settle(sg_id)
            with self._store.transaction():
                has_left = self._remove(sg_id, [pne_id])
                self._advance(sg_id, optional_number(answer, messages.REVISION), changed=has_left)
            self._tell(events.Left(pne_id, sg_id))
            self._deliveries.membership_caught_up(sg_id)
        return {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: sg_id}

    async def delete(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Pass an owner's DeleteServiceGroupRequest to the Server; return the fields of the response.

        The Server decides, and then sends this PN GW its own request to delete the group. Raises TooMany, NoAnswer, and
        ServerRefused with the Server's error.
        """
        pne_id, sg_id = own_id(peer_id, fields), text(fields, messages.SG_ID)
        self._count_uplink_request(pne_id)
        await self._end_rights_of_before(pne_id)
        await ask(self._uplink, numbers.DELETE_SERVICE_GROUP_REQUEST, dict(fields))
        return {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: sg_id}

    def runs(self, peer_id: str, fields: Fields) -> None:
        """Store the software version that a PNE names in a message, if it is another than before, for people to see."""
        pne, software = self._store.pn.pne(peer_id), fields.get(messages.SOFTWARE)
        if pne is None or not isinstance(software, str) or software == pne.software or not software.isprintable():
            return
        if self._software_changes.allow(peer_id, self._clock.monotonic()):
            with suppress(StoreFailed):  # the message itself can still be answered
                with self._store.transaction():
                    self._store.pn.set_software(peer_id, software)
                self._tell(events.Runs(peer_id, software))

    # from the Server

    def update(self, fields: Fields) -> dict[int, object]:
        """Handle an InventoryUpdateRequest, the full list of a group's members in this PN at a revision.

        Returns the fields of the response. Raises NotAllowed (another PN), Stale (a later revision is stored),
        MalformedMessage (a new member's name is no PNE ID).
        """
        pn, sg_id = self._pn(), text(fields, messages.SG_ID)
        revision = number(fields, messages.REVISION)
        if text(fields, messages.PN_ID) != pn.pn_id:
            raise NotAllowed("the inventory is of another PN")
        group = self._store.inventory.group(sg_id)
        if group is not None and revision < group.revision:
            raise Stale(f"revision {group.revision} of the membership is stored already")
        self._deliveries.settle(sg_id)
        with self._store.transaction():
            group = self._store.inventory.ensure_group(sg_id)
            members = set(listed(fields, messages.MEMBER))
            named = {pne_id for pne_id in members if not self._has_gone(sg_id, pne_id)}
            present = {member.pne_id: member for member in self._store.inventory.members(sg_id)}
            gone = [pne_id for pne_id, member in present.items() if pne_id not in named and member.revision <= revision]
            added = sorted(named - present.keys())
            for pne_id in added:
                if self._store.pn.pne(pne_id) is None:
                    self._require_name(pne_id)
                    self._store.pn.register(pne_id, pn.signing_epoch)
                self._store.inventory.add_member(sg_id, pne_id, group.version, revision)
            self._remove(sg_id, gone)
            self._trust.learn(sg_id, fields.get(messages.TRUST))
            if added:
                gkek.refresh(self._store, [sg_id])
            self._store.inventory.reach_revision(sg_id, revision)
            if self._trust.is_end_to_end(sg_id):
                self._store.inventory.end_waiting(sg_id)  # there is no key to wait for
        # The Server has counted the leave of a PNE that its list does not name; a LeaveRequest is no change any more.
        self._unasked_leaves -= {
            leave for leave in self._unasked_leaves if leave[0] == sg_id and leave[1] not in members
        }
        for pne_id in gone:
            self._tell(events.Removed(pne_id, sg_id))
        for pne_id in added:
            self._tell(events.Joined(pne_id, sg_id))
        self._deliveries.membership_caught_up(sg_id)
        self._expulsions.tell(sg_id, gone)
        return {
            messages.RESULT: numbers.RESULT_SUCCESS,
            messages.SG_ID: sg_id,
            messages.REVISION: revision,
        }

    async def settled(self, sg_id: str) -> None:
        """Return when the requests about this group that the Server has now are answered, and the answers stored."""
        async with self._turns.of(sg_id):
            return

    # from a person or the registrar

    def register(self, pne_id: str, preferred_sg: str | None = None) -> None:
        """Register a PNE, which knows the present signing key. The caller must have retired its old slots before.

        Raises MalformedMessage for a name that is no PNE ID.
        """
        self._require_name(pne_id)
        with self._store.transaction():
            self._store.pn.register(pne_id, self._pn().signing_epoch, preferred_sg)

    def retire(self, pne_id: str, cause: Cause) -> list[str]:
        """Retire a PNE that no longer belongs to this PN: its slots are retired and it leaves every group (SEC-06).

        Returns the SG IDs of the groups that are exposed now: the PNE knows their key, and others of this PN use it.
        `send_pending_leaves` and `send_pending_retirements` tell the Server. Raises Unknown.
        """
        if self._store.pn.pne(pne_id) is None:
            raise Unknown(f"there is no board {pne_id}")
        sg_ids = self._store.inventory.groups_of(pne_id)
        for sg_id in sg_ids:
            self._deliveries.settle(sg_id)
        with self._store.transaction():
            self._store.slots.retire(pne_id)
            self._store.pn.set_retired(pne_id)
            self._store.pn.add_pending_retirement(pne_id)
            for sg_id in sg_ids:
                self._remove(sg_id, [pne_id])
                self._store.pn.add_pending_leave(sg_id, pne_id)
                self._unasked_leaves.add((sg_id, pne_id))
        self._retired[pne_id] += 1
        self._unicast.drop(pne_id)
        self._changes.reset(pne_id)
        self._first_joins.pop(pne_id, None)
        exposed = [sg_id for sg_id in sg_ids if self._is_exposed(sg_id)]
        self._tell(events.Retired(pne_id, str(cause), tuple(exposed)))
        return exposed

    def end_rights(self, pne_id: str) -> None:
        """Store that the Server is to end the rights of a name; `send_pending_retirements` tells it."""
        with self._store.transaction():
            self._store.pn.add_pending_retirement(pne_id)

    def release(self, pne_id: str) -> None:
        """Let a held PNE join and leave again, as a person has decided. Raises Unknown."""
        if self._store.pn.pne(pne_id) is None:
            raise Unknown(f"there is no board {pne_id}")
        with self._store.transaction():
            self._store.pn.set_held(pne_id, False)
        self._changes.reset(pne_id)

    async def send_pending_leaves(self) -> None:
        """Tell the Server about each leave of a retired PNE that it does not know of yet.

        Raises NoAnswer, and ServerRefused for errors other than that the member or group is unknown.
        """
        for sg_id, pne_id in self._store.pn.pending_leaves():
            request = {messages.PNE_ID: pne_id, messages.SG_ID: sg_id, messages.PN_ID: self._pn().pn_id}
            revision: int | None = None
            async with self._turns.of(sg_id):
                if not self._store.pn.has_pending_leave(sg_id, pne_id):
                    continue  # another task has told the Server meanwhile
                is_first = (sg_id, pne_id) in self._unasked_leaves
                self._unasked_leaves.discard((sg_id, pne_id))
                try:
                    answer = await ask(self._uplink, numbers.LEAVE_REQUEST, request)
                    revision = optional_number(answer, messages.REVISION)
                except CpnsError as error:
                    if error.code not in (numbers.ERROR_NOT_MEMBER, numbers.ERROR_UNKNOWN):
                        raise
                with self._store.transaction():
                    self._store.pn.remove_pending_leave(sg_id, pne_id)
                    self._advance(sg_id, revision, changed=is_first)
                self._deliveries.membership_caught_up(sg_id)

    async def send_pending_retirements(self) -> None:
        """Tell the Server about each retired name that it does not know of yet.

        Only the Server knows the permissions of a name and the groups it owns. Raises NoAnswer, ServerRefused.
        """
        for pne_id in self._store.pn.pending_retirements():
            await self._send_retirement(pne_id)

    # shared

    def membership_fields(self, sg_id: str) -> dict[int, object]:
        """Return the fields about the group that answers to join, create and pull have in common. Raises Unknown."""
        group = self._store.inventory.group(sg_id)
        if group is None:
            raise Unknown(f"there is no Service Group {sg_id}")
        fields: dict[int, object] = {
            messages.SG_ALIAS: group.alias,
            messages.TIME: self._clock.unix(),
            messages.LEISURE: leisure_ms(self._policy, self._store.inventory.count_members(sg_id)),
        }
        if group.protection is not None:
            fields[messages.PROTECTION] = group.protection
        return fields

    async def _end_rights_of_before(self, pne_id: str) -> None:
        """End the rights that an earlier owner of the name still has at the Server, before asking it in this name.

        Raises the same as `ask`.
        """
        if any(gone == pne_id for _, gone in self._store.pn.pending_leaves()):
            await self.send_pending_leaves()
        await self._send_retirement(pne_id)

    async def _send_retirement(self, pne_id: str) -> None:
        async with self._retirement_turns.of(pne_id):
            if not self._store.pn.has_pending_retirement(pne_id):
                return
            request = {messages.PNE_ID: pne_id, messages.PN_ID: self._pn().pn_id}
            await ask(self._uplink, numbers.RETIREMENT_REQUEST, request)
            with self._store.transaction():
                self._store.pn.remove_pending_retirement(pne_id)

    def _joined(self, pne_id: str, sg_id: str, answer: Fields) -> dict[int, object]:
        floor, revision = number(answer, messages.VERSION), optional_number(answer, messages.REVISION)
        self._deliveries.settle(sg_id)
        with self._store.transaction():
            group = self._store.inventory.ensure_group(sg_id)
            late = revision is not None and revision < group.revision
            if late and not self._store.inventory.is_member(sg_id, pne_id):
                raise Stale("a later list of members does not name this board")
            self._store.inventory.set_protection(sg_id, number(answer, messages.PROTECTION))
            self._trust.learn(sg_id, answer.get(messages.TRUST))
            is_new = not self._store.inventory.is_member(sg_id, pne_id)
            if not is_new:
                self._store.inventory.lower_floor(sg_id, pne_id, floor)
            else:
                self._store.inventory.add_member(sg_id, pne_id, floor, revision or group.revision)
                gkek.refresh(self._store, [sg_id])
            self._advance(sg_id, revision, changed=is_new)
        if is_new:
            self._tell(events.Joined(pne_id, sg_id))
        self._deliveries.membership_caught_up(sg_id)
        pn = self._pn()
        return {
            messages.RESULT: numbers.RESULT_SUCCESS,
            messages.SG_ID: sg_id,
            messages.VERSION: floor,
            messages.PN_ID: pn.pn_id,
            messages.PN_ALIAS: pn.pn_alias,
            **self.membership_fields(sg_id),
            **({messages.TRUST: numbers.TRUST_END_TO_END} if self._trust.is_end_to_end(sg_id) else {}),
        }

    def _remove(self, sg_id: str, pne_ids: Iterable[str]) -> bool:
        """Remove these members, which know the present key, inside a transaction. Return False if none was a member.

        The keys of an end-to-end group may come before the list that no longer names a PNE, and are not for it then.
        """
        removed = [pne_id for pne_id in pne_ids if self._store.inventory.remove_member(sg_id, pne_id)]
        if removed:
            if any(self._carried.may_know_newest(sg_id, pne_id) for pne_id in removed):
                self._store.inventory.mark_exposed(sg_id)
            gkek.refresh(self._store, [sg_id])
            self._deliveries.members_removed(sg_id, removed)
            self._carried.members_removed(sg_id, removed)
        return bool(removed)

    def _is_exposed(self, sg_id: str) -> bool:
        """Return True if a PNE that is no member knows the present key, and there are members that use it."""
        group = self._store.inventory.group(sg_id)
        return group is not None and group.exposed and self._store.inventory.count_members(sg_id) > 0

    def _has_gone(self, sg_id: str, pne_id: str) -> bool:
        """Return True if the PNE was retired, or left this group, and the Server may not know yet."""
        pne, pn = self._store.pn.pne(pne_id), self._store.pn
        return (
            (pne is not None and pne.retired)
            or pn.has_pending_retirement(pne_id)
            or pn.has_pending_leave(sg_id, pne_id)
        )

    def _advance(self, sg_id: str, revision: int | None, *, changed: bool) -> None:
        """Store the revision that the Server's membership has after a request of this PN GW, inside a transaction.

        `changed`: the request has made a change, which is stored here, so `revision` should be one more than before. A
        higher revision means that another change is missing here. A member may have been removed then, so no key is
        sent to the group until the list of members has come (SEC-06).
        """
        group = self._store.inventory.group(sg_id)
        if group is None or revision is None:
            return
        if not group.revision or revision <= group.revision + changed:
            self._store.inventory.reach_revision(sg_id, revision)
        else:
            self._store.inventory.want_revision(sg_id, revision)
            self._deliveries.membership_behind(sg_id)
            self._revision_missing()

    def _count_change(self, pne_id: str, joins: str | None = None) -> None:
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.retired:
            raise NotAllowed(f"{pne_id} is not of this PN")
        if pne.held:
            raise TooMany("held: a person must release this board")
        first_joins = self._first_joins[pne_id]
        if joins is not None and joins not in first_joins and len(first_joins) < FIRST_JOINS:
            first_joins.add(joins)
            return
        if not self._changes.allow(pne_id, self._clock.monotonic()):
            with self._store.transaction():
                self._store.pn.set_held(pne_id, True)
            self._tell(events.Held(pne_id))
            raise TooMany("too many joins and leaves; held until a person releases this board")

    def _count_uplink_request(self, pne_id: str) -> None:
        if not self._uplink_requests.take(pne_id, self._clock.monotonic()):
            raise TooMany("the CPNS Server was asked too often for this board; ask again in a minute")

    def _require_name(self, pne_id: str) -> None:
        """Raise MalformedMessage for a new name that is no PNE ID."""
        if self._store.pn.pne(pne_id) is None:
            name_rule.checked(pne_id, "PNE ID")

    def _pn(self) -> PersonalNetwork:
        pn = self._store.pn.get()
        if pn is None:
            raise AssertionError("no PN yet")
        return pn
