"""Members of Service Groups: they join, leave and are expelled; each change raises the revision of their PN.

Whatever ends a membership makes a new Group Key necessary, however it came about (CPNS-GKM-60, Q-10). The membership
ends with the transaction; the key follows within the batching window.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cpns.tuning
from cpns import name_rule, numbers
from cpns.errors import NotAllowed, NotMember, TooMany, Unknown
from key_servers.cpns_server import tuning
from key_servers.cpns_server.admission import admit
from key_servers.cpns_server.group_keys import GroupKeyMaker, active
from key_servers.cpns_server.group_version import first, following
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, GroupTrust, MemberState, Moment, StoredGateway, StoredGroup
from key_servers.rate_limit import HourlyLimit


@dataclass(frozen=True, slots=True)
class JoinResult:
    """The answer to a new member: only versions above `floor` are for it (SEC-04)."""

    floor: int
    protection: int
    revision: int
    trust: GroupTrust


class MembershipChanges:
    """Changes the members of Service Groups."""

    def __init__(
        self, store: ServerStore, registry: Registry, keys: GroupKeyMaker, retired: Callable[[str], None]
    ) -> None:
        """Keep the parts. `retired` is called inside the transaction that retires a name, with the PNE ID."""
        self._store = store
        self._registry = registry
        self._keys = keys
        self._retired = retired
        self._rejoins = HourlyLimit(tuning.JOINS_PER_HOUR_MAX)

    def join(
        self, gateway: StoredGateway, pne_id: str, sg_id: str, trust: GroupTrust | None, now: Moment
    ) -> JoinResult:
        """Make a PNE of the PN GW's PN a member. A `trust` other than None is the only one that it joins with (SEC-26).

        For a member that joins again nothing changes, and the answer is the same. Raise Unknown, NotAllowed (policy,
        trust, held group, PNE of another PN), TooMany.
        """
        with self._store.transaction():
            group = active(self._store.group(sg_id), sg_id)
            if trust not in (None, group.trust):
                raise NotAllowed(f"Service Group {sg_id} has trust {group.trust}, board {pne_id} wants {trust}")
            is_bound = self._store.pn_of(pne_id) == gateway.pn_id
            self._registry.bind(pne_id, gateway)
            member = self._store.member(sg_id, pne_id)
            admit(group, member, pne_id, gateway.pn_id in self._store.open_to(sg_id), is_bound)
            if member is None or member.state is not MemberState.MEMBER:
                if member is not None and member.state is MemberState.PERMITTED:
                    self._store.after_commit(lambda: self._rejoins.forgive((pne_id,)))
                self._admit_member(
                    group, gateway.pn_id, pne_id, now, again=member is not None and member.state is MemberState.LEFT
                )
                if group.rekey_on_join:
                    self._keys.update_soon(sg_id, numbers.REASON_JOIN, now, gateway.pn_id)
            return self.joined(sg_id, gateway.pn_id)

    def joined(self, sg_id: str, pn_id: str) -> JoinResult:
        """Return the answer for a member. The newest key is for it, unless an update waits."""
        group = active(self._store.group(sg_id), sg_id)
        floor = group.version - 1 if group.pending is None else group.version
        return JoinResult(floor, group.protection, self._store.revision(sg_id, pn_id), group.trust)

    def leave(self, gateway: StoredGateway, pne_id: str, sg_id: str, now: Moment) -> int:
        """End a membership at the wish of the PNE or its PN GW, and return the PN's revision, even in a held group.

        For a PNE that left before the answer is the same. Raise Unknown, NotMember, NotAllowed (PNE of another PN).
        """
        with self._store.transaction():
            group = self._store.group(sg_id)
            if group is None or group.state is GroupState.DELETED:
                raise Unknown(f"there is no Service Group {sg_id}")
            self._registry.must_be_bound([pne_id], gateway.pn_id)
            member = self._store.member(sg_id, pne_id)
            if member is None or member.state is MemberState.PERMITTED:
                raise NotMember(f"board {pne_id} is no member of Service Group {sg_id}")
            if member.state is MemberState.MEMBER:
                self._end(group, pne_id, MemberState.LEFT, now, by_pn=gateway.pn_id)
            return self._store.revision(sg_id, gateway.pn_id)

    def expel(self, sg_id: str, pne_id: str, now: Moment) -> None:
        """End a membership, or a permission, at an operator's wish. The PNE cannot join again until permitted.

        Raise Unknown, NotMember.
        """
        with self._store.transaction():
            group = self._store.group(sg_id)
            if group is None or group.state is GroupState.DELETED:
                raise Unknown(f"there is no Service Group {sg_id}")
            member = self._store.member(sg_id, pne_id)
            if member is None:
                raise NotMember(f"board {pne_id} is no member of Service Group {sg_id}")
            if member.state is MemberState.MEMBER:
                self._end(group, pne_id, MemberState.EXPELLED, now)
            else:
                self._store.set_member(sg_id, pne_id, MemberState.EXPELLED, now.unix)

    def permit(self, sg_id: str, pne_id: str, now: Moment) -> None:
        """Permit a PNE to join, even one that was expelled or held for joining too often. Raise Unknown."""
        with self._store.transaction():
            active(self._store.group(sg_id), sg_id)
            member = self._store.member(sg_id, pne_id)
            if member is None and self._store.pn_of(pne_id) is None:
                name_rule.checked(pne_id, "PNE ID")
            if member is None or member.state is not MemberState.MEMBER:
                self._store.set_member(sg_id, pne_id, MemberState.PERMITTED, now.unix)

    def move_pne(self, pne_id: str, pn_id: str, now: Moment) -> None:
        """Bind a PNE to another PN: it leaves all its groups first, and may then join through the other PN GW.

        Raises Unknown.
        """
        if self._store.gateway_of(pn_id) is None:
            raise Unknown(f"no PN GW serves PN {pn_id}")
        with self._store.transaction():
            if self._store.pn_of(pne_id) is None:
                raise Unknown(f"there is no board {pne_id}")
            for sg_id in self._store.groups_joined_by(pne_id):
                group = self._store.group(sg_id)
                if group is not None:
                    self._end(group, pne_id, MemberState.LEFT, now)
            self._store.bind_pne(pne_id, pn_id)

    def end_rights(self, gateway: StoredGateway, pne_id: str, now: Moment) -> None:
        """Retire a name at the wish of a PN GW.

        A PN GW has no say over names of another PN nor, unless it is trusted with names, over those that belong to no
        PN yet: they keep what they have.
        """
        pn_id = self._store.pn_of(pne_id)
        if pn_id == gateway.pn_id or (pn_id is None and gateway.is_open):
            self.retire(pne_id, now, by_pn=gateway.pn_id)

    def retire(self, pne_id: str, now: Moment, by_pn: str = "") -> None:
        """End memberships, permissions and ownerships of a name, so that the next board of that name has none.

        The name stays expelled where it was, and bound to its PN. `by_pn`: the PN whose PN GW wishes it, "" for none.
        """
        with self._store.transaction():
            for group in self._store.groups():
                member = self._store.member(group.sg_id, pne_id)
                if member is not None and member.state is MemberState.PERMITTED:
                    self._store.set_member(group.sg_id, pne_id, MemberState.LEFT, now.unix)
                elif member is not None and member.state is MemberState.MEMBER:
                    self._end(group, pne_id, MemberState.LEFT, now, by_pn)
                if group.owner == pne_id:
                    present = self._store.group(group.sg_id) or group
                    self._store.put_group(replace(present, owner=""))
            self._retired(pne_id)

    def found(self, group: StoredGroup, pn_id: str, pne_id: str, now: Moment) -> None:
        """Make the owner of a new group its first member, inside the caller's transaction."""
        self._admit_member(group, pn_id, pne_id, now, again=False)

    def raise_revision(self, sg_id: str, pn_id: str) -> int:
        """Count one change of a PN's part of an SG Inventory, inside the caller's transaction. Raises TooMany."""
        present = self._store.revision(sg_id, pn_id)
        if not present and self._store.count_inventories(pn_id) >= cpns.tuning.LISTED_MAX:
            raise TooMany(f"PN {pn_id} takes part in {cpns.tuning.LISTED_MAX} Service Groups")
        # A new count starts in the present epoch, above any count of the Server that this store is a copy of (SEC-03).
        revision = following(present or first(self._store.base_epoch()))
        self._store.set_revision(sg_id, pn_id, revision)
        return revision

    def _admit_member(self, group: StoredGroup, pn_id: str, pne_id: str, now: Moment, again: bool) -> None:
        if again and not self._rejoins.has_room((pne_id,), now.monotonic):
            raise TooMany(f"board {pne_id} joins too often; an operator can permit it, or it waits an hour")
        if len(self._store.members_in(group.sg_id, pn_id)) >= cpns.tuning.LISTED_MAX:
            raise TooMany(f"PN {pn_id} has {cpns.tuning.LISTED_MAX} members in Service Group {group.sg_id}")
        most = tuning.END_TO_END_MEMBERS_PER_PN_MAX
        if group.trust is GroupTrust.END_TO_END and self._store.count_end_to_end_members(pn_id) >= most:
            raise TooMany(f"PN {pn_id} has {most} members in end-to-end Service Groups, all groups together")
        self._store.set_member(group.sg_id, pne_id, MemberState.MEMBER, now.unix)
        self.raise_revision(group.sg_id, pn_id)
        if again:
            self._store.after_commit(lambda: self._rejoins.take((pne_id,), now.monotonic))

    def _end(self, group: StoredGroup, pne_id: str, state: MemberState, now: Moment, by_pn: str = "") -> None:
        pn_id = self._store.pn_of(pne_id)
        self._store.set_member(group.sg_id, pne_id, state, now.unix)
        if pn_id is not None:
            self.raise_revision(group.sg_id, pn_id)
        self._keys.update_soon(group.sg_id, numbers.REASON_LEAVE, now, by_pn)
