"""Sends GKDKs to PNEs: on request (CPNS-GKM-25, -26), and when a new generation has begun (CPNS-GKM-74, SEC-07)."""

from contextlib import suppress

from cpns import messages, numbers
from cpns.errors import NotAllowed, TooMany
from gateway_agent.core.fields import Fields, own_id
from gateway_agent.core.gkdk import gkek
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.ports import Clock, Unicast
from gateway_agent.core.rates import GKDK_LOSSES_PER_HOUR, GKDK_REQUESTS_PER_HOUR, Rate
from gateway_agent.store.store import GatewayStore


class GkdkHandout:
    """Sends GKDKs to PNEs and keeps track of which PNE has which."""

    def __init__(self, *, store: GatewayStore, tree: Tree, versions: Versions, unicast: Unicast, clock: Clock) -> None:
        self._store = store
        self._tree = tree
        self._versions = versions
        self._unicast = unicast
        self._clock = clock
        self._requests = Rate(GKDK_REQUESTS_PER_HOUR)
        self._losses = Rate(GKDK_LOSSES_PER_HOUR)

    def request(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Handle a GKDKAssignmentRequest and return the response's fields.

        A PNE that asks again gets the same record, at most 4 times an hour (SEC-19). Raises NotAllowed (not of this PN,
        or the PN GW is stopped), TooMany.
        """
        pne_id = own_id(peer_id, fields)
        self._versions.refuse_if_stopped()
        pne, pn = self._store.pn.pne(pne_id), self._store.pn.get()
        if pne is None or pne.retired or pn is None:
            raise NotAllowed(f"{pne_id} is not of this PN")
        if not self._requests.allow(pne_id, self._clock.monotonic()):
            raise TooMany("the GKDK was asked for too often; ask again in an hour")
        generation, record = self._tree.record(pne_id, self._clock.unix())
        self._set_delivered(pne_id, generation, True)
        return {messages.RESULT: numbers.RESULT_SUCCESS, messages.GKDK: record, messages.PN_ALIAS: pn.pn_alias}

    def forget(self, pne_id: str) -> None:
        """Reset the limits of a PNE that was retired, for the next owner of its name."""
        self._requests.reset(pne_id)
        self._losses.reset(pne_id)

    def heard(self, pne_id: str, generation: int | None) -> None:
        """Note of which generation a PNE says that it has a GKDK, None for none."""
        if generation is not None:
            self._versions.heard_generation(pne_id, generation)
            self._replace(pne_id)

    def lost(self, pne_id: str, generation: int | None) -> None:
        """Note that a member has no newer GKDK than that of `generation` (None: none at all).

        Covers no longer include the member's slots in newer generations until their GKDKs are delivered again. The
        opposite claim, that it has a GKDK, is never believed, as its slot may be another one today. A PNE that loses
        GKDKs too often is not believed either, and misses broadcasts.
        """
        given = [row.generation for row in self._store.slots.generations() if row.generation > (generation or 0)]
        slots = [slot for number in given if (slot := self._store.slots.active(pne_id, number)) and slot.delivered]
        if not slots or not self._losses.allow(pne_id, self._clock.monotonic()):
            return
        with self._store.transaction():
            for slot in slots:
                self._set_delivered(pne_id, slot.generation, False)

    def lacks_current(self, pne_id: str) -> bool:
        """Return True if this PNE has a slot in the current generation whose GKDK it has not got yet."""
        current = self._store.slots.current()
        if current is None:
            return False
        slot = self._store.slots.active(pne_id, current.generation)
        return slot is not None and not slot.delivered

    async def push(self, pne_id: str) -> bool:
        """Send a PNE the GKDK of the current generation over its session; return whether the PNE has accepted it.

        Raises NoAnswer, MalformedMessage, TooMany.
        """
        generation, record = self._tree.record(pne_id, self._clock.unix())
        fields = {messages.GKDK: record, messages.GENERATION: generation}
        answer = await self._unicast.request(pne_id, messages.encode(numbers.GENERATION_REQUEST, fields))
        if answer is None:
            return False
        code, answered = messages.decode(answer)
        if code != numbers.GENERATION_RESPONSE or answered[messages.RESULT] != numbers.RESULT_SUCCESS:
            return False
        self._set_delivered(pne_id, generation, True)
        return True

    def _replace(self, pne_id: str) -> None:
        """Assign a slot, whose GKDK is then pushed, to a PNE whose GKDK is of a slot that it no longer has.

        Such a PNE was registered after the backup that was restored, and it does not ask by itself. This happens at
        most once in a generation.
        """
        pne, current = self._store.pn.pne(pne_id), self._store.slots.current()
        if pne is None or pne.retired or current is None or self._versions.stop_reason is not None:
            return
        if self._store.slots.active(pne_id, current.generation) is None:
            with suppress(TooMany):  # the tree is full: it will pull again when a larger one has begun
                self._tree.record(pne_id, self._clock.unix())

    def _set_delivered(self, pne_id: str, generation: int, delivered: bool) -> None:
        with self._store.transaction():
            if self._store.slots.set_delivered(pne_id, generation, delivered):
                gkek.refresh(self._store, self._store.inventory.groups_of(pne_id))
