"""The GKEK, which is the cover of a Service Group's members, and the objects under it (CPNS-GKM-17, -27, -35, -75).

The store holds the list of indexes. The subset keys are derived from the tree master when they are used (SEC-29).
"""

from collections.abc import Collection, Iterable

from cpns import tuning
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_object_build import build, build_delete
from gateway_agent.core.gkdk.tree import PROFILE, Tree
from gateway_agent.core.ports import Signer
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.inventory import Member, ServiceGroup
from gateway_agent.store.store import GatewayStore

_OBJECT_OCTETS = 109  # the signed frame without entries
_ENTRY_OCTETS = 18


def refresh(store: GatewayStore, sg_ids: Iterable[str]) -> None:
    """Compute the GKEK of these groups anew, inside the transaction that changed their members (CPNS-GKM-27).

    An end-to-end group has none, as this PN GW has no key to broadcast for it (SEC-26).
    """
    heights = {row.generation: row.height for row in store.slots.generations()}
    for sg_id in sg_ids:
        group = store.inventory.group(sg_id)
        if group is not None and group.end_to_end:
            continue
        slots = _slots_by_generation(store.inventory.members(sg_id))
        covers = []
        for generation, members in slots.items():
            height = heights[generation]
            subsets = cover(height, PROFILE, members)
            covers.append((generation, b"".join(subset_index.encode(height, subset) for subset in subsets)))
        store.inventory.put_gkek(sg_id, covers)


def sizes(store: GatewayStore, sg_id: str) -> list[int]:
    """Return the approximate size in octets of each datagram that carries a Group Key under the stored covers."""
    widths = {row.generation: subset_index.width(row.height) for row in store.slots.generations()}
    found = []
    for gkek in store.inventory.gkek(sg_id):
        entries = len(gkek.indexes) // widths[gkek.generation]
        for first in range(0, entries, tuning.ENTRIES_PER_OBJECT):
            found.append(_OBJECT_OCTETS + min(entries - first, tuning.ENTRIES_PER_OBJECT) * _ENTRY_OCTETS)
    return found


class BroadcastObjects:
    """Makes signed broadcast objects. Version, Group Key and GKEK are stored before any is signed (SEC-29)."""

    def __init__(self, store: GatewayStore, tree: Tree, signer: Signer) -> None:
        self._store = store
        self._tree = tree
        self._signer = signer

    def change_signer(self, signer: Signer) -> None:
        """Sign with another key from now on (SEC-18)."""
        self._signer = signer

    def group_key(
        self,
        group: ServiceGroup,
        key: GroupKey,
        activation: int,
        generations: Collection[int],
        entitled: Collection[str],
    ) -> list[bytes]:
        """Return the datagrams that carry `key` to the present members among `entitled` in these generations.

        The stored GKEK is used if all members in it are entitled. If a PNE has joined since that may not read this
        version, a cover without that PNE is computed (SEC-04).
        """
        pn = self._store.pn.get()
        if pn is None:
            raise AssertionError("no PN yet")
        members = _members_by_generation(self._store.inventory.members(group.sg_id))
        stored = {gkek.generation: gkek.indexes for gkek in self._store.inventory.gkek(group.sg_id)}
        datagrams = []
        for generation in sorted(generations):
            keys = self._tree.keys(generation)
            if keys is None or generation not in stored:
                continue
            present = members[generation]
            slots = {member.slot for member in present if member.slot is not None and member.pne_id in entitled}
            if len(slots) == len(present):
                subsets = _decode(keys.height, stored[generation])
            else:
                subsets = cover(keys.height, PROFILE, slots)
            drafts = build(
                pn_id=pn.pn_id,
                sg_id=group.sg_id,
                pn_alias=pn.pn_alias,
                sg_alias=group.alias,
                generation=generation,
                version=key.version,
                activation=activation,
                reason=key.reason,
                group_key=key.key,
                height=keys.height,
                subsets=subsets,
                key_of=keys.subset_key,
            )
            datagrams += [draft.finish(self._signer.sign(draft.to_be_signed)) for draft in drafts]
        return datagrams

    def delete(self, group: ServiceGroup) -> bytes:
        """Return the signed delete of a Service Group (SEC-15)."""
        pn = self._store.pn.get()
        if pn is None:
            raise AssertionError("no PN yet")
        draft = build_delete(
            pn_id=pn.pn_id, sg_id=group.sg_id, pn_alias=pn.pn_alias, sg_alias=group.alias, version=group.version
        )
        return draft.finish(self._signer.sign(draft.to_be_signed))


def _decode(height: int, indexes: bytes) -> list[subset_index.Subset]:
    width = subset_index.width(height)
    return [subset_index.decode(height, indexes[at : at + width]) for at in range(0, len(indexes), width)]


def _members_by_generation(members: list[Member]) -> dict[int, list[Member]]:
    out: dict[int, list[Member]] = {}
    for member in members:
        if member.generation is not None:
            out.setdefault(member.generation, []).append(member)
    return out


def _slots_by_generation(members: list[Member]) -> dict[int, set[int]]:
    return {
        generation: {member.slot for member in present if member.slot is not None}
        for generation, present in _members_by_generation(members).items()
    }
