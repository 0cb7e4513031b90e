"""Recovery: the Server's own store came back from a copy (SEC-03), or a PN GW was stolen and replaced (SEC-18)."""

from collections.abc import Iterable
from dataclasses import replace

import cpns.tuning
from cpns import numbers
from cpns.errors import NotAllowed, NotMember, Unknown
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.group_keys import GroupKeyMaker
from key_servers.cpns_server.group_version import restored, restored_base
from key_servers.cpns_server.membership import MembershipChanges
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, GroupTrust, MemberState, Moment, StoredGateway


def epochs_ahead(newer: ServerStore, older: ServerStore) -> int:
    """Return the epochs by which a store is ahead of a copy of it, in the epoch of new Service Groups or of any
    group."""
    versions = {group.sg_id: group.version >> 16 for group in older.groups()}
    ahead = [(group.version >> 16) - versions.get(group.sg_id, older.base_epoch()) for group in newer.groups()]
    return max(0, newer.base_epoch() - older.base_epoch(), *ahead)


class Recovery:
    """The commands of an operator after a loss."""

    def __init__(
        self, store: ServerStore, registry: Registry, membership: MembershipChanges, keys: GroupKeyMaker
    ) -> None:
        self._store = store
        self._registry = registry
        self._membership = membership
        self._keys = keys

    def restore(self, epochs: int, now: Moment, since_s: int = 0) -> tuple[str, ...]:
        """Declare this store an older copy: go on `epochs` epochs later, hold all groups; return the IDs of those held.

        Nothing is issued under a version that the lost Server may have used, and no member that left since the copy was
        made is keyed before a person has looked at the members. More than 1 epoch is for a copy that was put back
        before, unless `since_s`, the seconds since it was made (0 = not known), tells the restores apart. Raise
        NotAllowed (epochs beyond what receivers follow), TooMany (epochs used up).
        """
        if not 1 <= epochs <= cpns.tuning.EPOCH_JUMP_MAX:
            raise NotAllowed(f"go on 1 to {cpns.tuning.EPOCH_JUMP_MAX} epochs later: receivers refuse more")
        held = []
        with self._store.transaction():
            self._store.set_base_epoch(restored_base(self._store.base_epoch(), epochs, since_s))
            for group in self._store.groups():
                if group.state is not GroupState.DELETED:
                    group = replace(group, state=GroupState.HELD)
                    held.append(group.sg_id)
                self._store.put_group(replace(group, version=restored(group.version, epochs, since_s), pending=None))
                for pn_id in self._store.inventory_pns(group.sg_id):
                    revision = self._store.revision(group.sg_id, pn_id)
                    self._store.set_revision(group.sg_id, pn_id, restored(revision, epochs, since_s))
                    self._store.set_accepted(group.sg_id, pn_id, Position())
                self._store.forget_pne_positions(group.sg_id)
                self._keys.delete(group.sg_id, now)
        return tuple(held)

    def confirm_members(self, sg_id: str, expel: Iterable[str], now: Moment) -> int:
        """End the hold of a group and return the version of its new key. Its members stay, except those in `expel`.

        Raise Unknown, NotAllowed (not held), NotMember (a name in `expel` that is no member).
        """
        with self._store.transaction():
            group = self._store.group(sg_id)
            if group is None or group.state is GroupState.DELETED:
                raise Unknown(f"there is no Service Group {sg_id}")
            if group.state is not GroupState.HELD:
                raise NotAllowed(f"Service Group {sg_id} is not held")
            for pne_id in expel:
                member = self._store.member(sg_id, pne_id)
                if member is None or member.state is not MemberState.MEMBER:
                    raise NotMember(f"board {pne_id} is no member of Service Group {sg_id}")
                self._store.set_member(sg_id, pne_id, MemberState.EXPELLED, now.unix)
            for pn_id in self._store.inventory_pns(sg_id):
                self._membership.raise_revision(sg_id, pn_id)
            self._store.put_group(replace(group, state=GroupState.ACTIVE))
            return self._keys.update(sg_id, numbers.REASON_LEAVE, now)

    def replace_gateway(self, gateway_id: str, new_gateway_id: str, now: Moment) -> StoredGateway:
        """Block a PN GW, let another one serve its PN, renew every key that the old one held; return the new one.

        Raise Unknown, NotAllowed (the new ID is taken).
        """
        with self._store.transaction():
            old = self._registry.block_gateway(gateway_id)
            self._registry.register_gateway(new_gateway_id, old.pn_id, old.form, old.is_open)
            self.renew_keys(old.pn_id, now)
            return replace(old, gateway_id=new_gateway_id)

    def renew_keys(self, pn_id: str, now: Moment) -> None:
        """Renew every key that the PN GW of a PN holds, as another PN GW or another credential takes its place.

        It has none of end-to-end groups; their members are told to the new PN GW.
        """
        with self._store.transaction():
            for _, sg_id in self._store.positions(pn_id=pn_id):
                group = self._store.group(sg_id)
                if group is None or group.state is GroupState.DELETED:
                    continue
                self._membership.raise_revision(sg_id, pn_id)
                self._store.set_accepted(sg_id, pn_id, Position())
                if group.trust is GroupTrust.GATEWAY:
                    self._keys.update_soon(sg_id, numbers.REASON_LEAVE, now)
