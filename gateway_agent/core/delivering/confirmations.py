"""Checks whether a GroupKeyDeliveryResponse proves that a PNE holds a Group Key (SEC-14).

Reading the fields (`claim`) and checking the proof (`Confirmations.prove`) are separate, because a claim may come over
a session or without one.
"""

from dataclasses import dataclass

from cpns import messages, numbers
from cpns.crypto.compare import equal
from cpns.errors import NotAuthentic, NotMember, Stale, Unknown
from cpns.proof import confirmation
from gateway_agent.core.fields import Fields, number, octets, text
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.store.store import GatewayStore


@dataclass(frozen=True, slots=True)
class SlotProof:
    """A proof for a slot. Only the PNE of the slot can compute `shown`, 8 octets, and only if it has the Group Key."""

    generation: int
    slot: int
    shown: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of a GroupKeyDeliveryResponse: a PNE has stored a version (`accepted`), or could not use it.

    `proof` is None if the response has none, as that of a PNE without GKDK or of one that could not use the key.
    """

    sg_id: str
    version: int
    accepted: bool
    proof: SlotProof | None


class SlotUnknown(NotAuthentic):
    """The PNE names a slot that this PN GW never gave it: the PNE lies, or the store is an old copy (SEC-02)."""


def claim(fields: Fields) -> Claim:
    """Return the claim in the fields of a GroupKeyDeliveryResponse. Raises MalformedMessage, also for half a proof."""
    accepted = fields[messages.RESULT] == numbers.RESULT_SUCCESS
    proof = None
    if accepted and any(label in fields for label in (messages.GENERATION, messages.SLOT, messages.PROOF)):
        proof = SlotProof(
            number(fields, messages.GENERATION), number(fields, messages.SLOT), octets(fields, messages.PROOF)
        )
    return Claim(text(fields, messages.SG_ID), number(fields, messages.VERSION), accepted, proof)


class Confirmations:
    """Checks claims against the store and the tree."""

    def __init__(self, store: GatewayStore, tree: Tree, pn_id: str) -> None:
        self._store = store
        self._tree = tree
        self._pn_id = pn_id

    def prove(self, pne_id: str, claimed: Claim) -> bool:
        """Return True if the claim for a PNE is proven, False if it has no proof or says that the key was not accepted.

        The PNE must be a member at this moment (SEC-06). Raises NotMember, Unknown (no such version), NotAuthentic (the
        proof does not fit), SlotUnknown, Stale (a version that is no longer delivered, or a proof with an old GKDK).
        """
        sg_id, version, proof = claimed.sg_id, claimed.version, claimed.proof
        group = self._store.inventory.group(sg_id)
        if group is None or not self._store.inventory.is_member(sg_id, pne_id):
            raise NotMember(f"{pne_id} is no member of {sg_id}")
        if version != group.version:
            raise Stale("this version is not the one that is delivered")
        if not claimed.accepted:
            return False
        key = self._store.group_keys.get(sg_id, version)
        if key is None:
            raise Unknown("no such version")
        if proof is None:
            return False
        generation, slot = proof.generation, proof.slot
        keys = self._tree.keys(generation)
        if keys is None and (pn := self._store.pn.get()) is not None and generation <= pn.last_generation:
            raise Stale("the generation of this proof has ended")  # normal after a restore, no sign of an old copy
        own = self._store.slots.active(pne_id, generation)
        if (own is None or own.slot != slot) and self._store.slots.was_given(pne_id, generation, slot):
            raise Stale("the slot of this proof is retired")  # its credential was registered anew, a GKDK is on its way
        if keys is None or own is None or own.slot != slot:
            raise SlotUnknown(f"{pne_id} has no slot {slot} in generation {generation}")
        expected = confirmation(
            keys.report_key(slot),
            generation,
            slot,
            version,
            numbers.RESULT_SUCCESS,
            self._pn_id,
            sg_id,
            key.key,
        )
        if not equal(expected, proof.shown):
            raise NotAuthentic("the proof does not fit")
        return True
