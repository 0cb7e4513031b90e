"""Creates and deletes Service Groups. Their names and versions outlive them, so that an old key stays old."""

from collections.abc import Iterable
from dataclasses import replace

from cpns import name_rule, numbers
from cpns.errors import NotAllowed, TooMany, Unknown
from key_servers.cpns_server import group_version, tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.group_keys import GroupKeyMaker
from key_servers.cpns_server.membership import JoinResult, MembershipChanges
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, GroupTrust, JoinPolicy, Moment, StoredGateway, StoredGroup


class ServiceGroups:
    """Creates and deletes Service Groups with their keys (CPNS-GKM-58, -59)."""

    def __init__(
        self,
        store: ServerStore,
        registry: Registry,
        membership: MembershipChanges,
        keys: GroupKeyMaker,
        template: StoredGroup,
        embedded: bool,
    ) -> None:
        """Keep the parts. `template` holds the values of a new group that its maker leaves open.

        An `embedded` Server is one in a PN GW's process.
        """
        self._store = store
        self._registry = registry
        self._membership = membership
        self._keys = keys
        self._template = template
        self._embedded = embedded

    def create_by_pne(
        self,
        gateway: StoredGateway,
        pne_id: str,
        sg_id: str,
        protection: int | None,
        trust: GroupTrust | None,
        now: Moment,
    ) -> JoinResult:
        """Make a group owned by a PNE, which is its first member. An owner that asks again gets the same answer.

        By policy OPEN it is open to the owner's PN. Raise NotAllowed (SG ID taken, PNE of another PN, or a trust that
        this name or this Server cannot have), TooMany.
        """
        with self._store.transaction():
            self._registry.bind(pne_id, gateway)
            present = self._store.group(sg_id)
            if present is not None and present.state is not GroupState.DELETED:
                if present.owner != pne_id or protection not in (None, present.protection):
                    raise NotAllowed(f"there is a Service Group {sg_id} already")
                return self._membership.join(gateway, pne_id, sg_id, trust, now)
            if present is None:
                name_rule.checked(sg_id, "SG ID")
            elif present.owner != pne_id:
                raise NotAllowed(f"SG ID {sg_id} was used by somebody else before")
            if self._store.count_groups_of(pne_id) >= tuning.GROUPS_PER_OWNER_MAX:
                raise TooMany(f"board {pne_id} owns {tuning.GROUPS_PER_OWNER_MAX} Service Groups")
            if present is None and self._store.count_names_of(gateway.pn_id) >= tuning.GROUP_NAMES_PER_PN_MAX:
                raise TooMany(f"boards of PN {gateway.pn_id} have used {tuning.GROUP_NAMES_PER_PN_MAX} SG IDs")
            group = self._designed(replace(self._template, sg_id=sg_id, owner=pne_id), present, protection, trust)
            self._put_new(group, present, [gateway.pn_id])
            self._membership.found(group, gateway.pn_id, pne_id, now)
            self._keys.update(sg_id, numbers.REASON_CREATE, now)
            return self._membership.joined(sg_id, gateway.pn_id)

    def create_by_operator(
        self,
        sg_id: str,
        open_to: Iterable[str],
        policy: JoinPolicy | None,
        protection: int | None,
        trust: GroupTrust | None,
        rekey_on_join: bool | None,
        period_s: int | None,
        now: Moment,
    ) -> None:
        """Make a group without owner and members; None stands for the template's value. Raise NotAllowed, Unknown."""
        if self._store.group(sg_id) is None:
            name_rule.checked(sg_id, "SG ID")
        usual = self._template
        group = replace(
            usual,
            sg_id=sg_id,
            policy=usual.policy if policy is None else policy,
            rekey_on_join=usual.rekey_on_join if rekey_on_join is None else rekey_on_join,
            period_s=usual.period_s if period_s is None else period_s,
        )
        _check_times(group)
        with self._store.transaction():
            present = self._store.group(sg_id)
            if present is not None and present.state is not GroupState.DELETED:
                raise NotAllowed(f"there is a Service Group {sg_id} already")
            group = self._designed(group, present, protection, trust)
            self._put_new(group, present, [self._served(pn_id) for pn_id in open_to])
            self._keys.update(sg_id, numbers.REASON_CREATE, now)

    def set_policy(
        self,
        sg_id: str,
        period_s: int | None,
        rekey_on_join: bool | None,
        batching_s: float | None,
        now: Moment,
    ) -> None:
        """Change the policies of a living group; None keeps the present one. Raise Unknown, NotAllowed."""
        with self._store.transaction():
            present = self._living(sg_id)
            group = replace(
                present,
                period_s=present.period_s if period_s is None else period_s,
                rekey_on_join=present.rekey_on_join if rekey_on_join is None else rekey_on_join,
                batching_s=present.batching_s if batching_s is None else batching_s,
            )
            _check_times(group)
            self._store.put_group(group)
            self._keys.consider(group, now)

    def open_to_pn(self, sg_id: str, pn_id: str) -> None:
        """Let the PNEs of one more PN join an open group. Raises Unknown."""
        with self._store.transaction():
            self._living(sg_id)
            self._store.set_open_to(sg_id, [*self._store.open_to(sg_id), self._served(pn_id)])

    def delete_by_pne(self, gateway: StoredGateway, pne_id: str, sg_id: str, now: Moment) -> None:
        """Delete a group at its owner's wish; for a deleted one nothing changes. Raise Unknown, NotAllowed."""
        with self._store.transaction():
            self._registry.must_be_bound([pne_id], gateway.pn_id)
            group = self._store.group(sg_id)
            if group is None:
                raise Unknown(f"there is no Service Group {sg_id}")
            if group.owner != pne_id:
                raise NotAllowed(f"only the owner of Service Group {sg_id} may delete it")
            if group.state is not GroupState.DELETED:
                self._delete(group, now)

    def delete_by_operator(self, sg_id: str, now: Moment) -> None:
        """Delete a group. Raises Unknown."""
        with self._store.transaction():
            self._delete(self._living(sg_id), now)

    def _designed(
        self, group: StoredGroup, present: StoredGroup | None, protection: int | None, trust: GroupTrust | None
    ) -> StoredGroup:
        """Return a new group with its protection and trust; None stands for the usual ones. Raises NotAllowed.

        A name keeps its trust for ever (SEC-26): a PNE that joined it end-to-end must never get its key another way.
        """
        if present is not None and trust not in (None, present.trust):
            raise NotAllowed(f"SG ID {group.sg_id} was used with trust {present.trust} before; use another one")
        trust = trust or (GroupTrust.GATEWAY if present is None else present.trust)
        if trust is GroupTrust.END_TO_END:
            if self._embedded:
                raise NotAllowed(
                    "this CPNS Server is embedded, so the gateway's process holds all its keys: an end-to-end group "
                    "needs a CPNS Server of its own, on another machine"
                )
            if protection not in (None, numbers.PROTECTION_SEALED):
                raise NotAllowed("the messages of an end-to-end group are sealed, or its PN GWs could read them")
            protection = numbers.PROTECTION_SEALED
        return replace(group, protection=group.protection if protection is None else protection, trust=trust)

    def _put_new(self, group: StoredGroup, present: StoredGroup | None, open_to: Iterable[str]) -> None:
        # The versions of a group that was deleted go on, so that its old keys stay old (SEC-04).
        version = group_version.first(self._store.base_epoch()) if present is None else present.version
        self._store.put_group(replace(group, version=version))
        self._store.set_open_to(group.sg_id, open_to)

    def _delete(self, group: StoredGroup, now: Moment) -> None:
        self._store.put_group(replace(group, state=GroupState.DELETED, pending=None))
        self._store.set_open_to(group.sg_id, [])
        self._store.forget_members(group.sg_id)
        self._keys.delete(group.sg_id, now)

    def _living(self, sg_id: str) -> StoredGroup:
        group = self._store.group(sg_id)
        if group is None or group.state is GroupState.DELETED:
            raise Unknown(f"there is no Service Group {sg_id}")
        return group

    def _served(self, pn_id: str) -> str:
        if self._store.gateway_of(pn_id) is None:
            raise Unknown(f"no PN GW serves PN {pn_id}; register it first")
        return pn_id


def _check_times(group: StoredGroup) -> None:
    """Raise NotAllowed unless keys are updated at times that can be meant."""
    if group.period_s and not tuning.PERIOD_MIN_S <= group.period_s <= tuning.PERIOD_MAX_S:
        limits = f"at least {tuning.PERIOD_MIN_S} and at most {tuning.PERIOD_MAX_S} seconds"
        raise NotAllowed(f"the period of updates is 0 or {limits}")
    if group.batching_s is not None and not 0 <= group.batching_s <= tuning.BATCHING_MAX_S:
        raise NotAllowed(f"joins and leaves of at most {tuning.BATCHING_MAX_S:g} seconds make one update")


def template_group(config: ServerConfig) -> StoredGroup:
    """Return a Service Group with the settings that `config` has for new ones."""
    return StoredGroup(
        sg_id="",
        owner="",
        state=GroupState.ACTIVE,
        policy=JoinPolicy(config.join_policy),
        protection=config.protection_code,
        rekey_on_join=config.rekey_on_join,
        period_s=config.period_s,
        version=0,
        pending=None,
        key_made_at=0,
    )
