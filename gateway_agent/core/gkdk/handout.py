"""GKDKs reach PNEs: on request (CPNS-GKM-25, -26), and pushed when a new generation has begun (CPNS-GKM-74, SEC-07)."""

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
    """Hands GKDKs out and keeps track of who has which."""

    def __init__(self, *, store: GatewayStore, tree: Tree, versions: Versions, unicast: Unicast, clock: Clock) -> None:
        self._store = store
        self._tree = tree
        self._versions = versions
        self._unicast = unicast
        self._clock = clock
        self._requests = Rate(GKDK_REQUESTS_PER_HOUR)
        self._losses = Rate(GKDK_LOSSES_PER_HOUR)

    def request(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """GKDKAssignmentRequest: the response's fields. Asking again gives the same record, 4 times an hour (SEC-19).

        Raises NotAllowed (not of this PN, or stopped), TooMany.
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
        """The PNE was retired: whoever has its name next begins to count anew."""
        self._requests.reset(pne_id)
        self._losses.reset(pne_id)

    def heard(self, pne_id: str, generation: int | None) -> None:
        """A PNE says which generation it has a GKDK of, None = none."""
        if generation is not None:
            self._versions.heard_generation(pne_id, generation)
            self._replace(pne_id)

    def lost(self, pne_id: str, generation: int | None) -> None:
        """A member says that it has no newer GKDK than of `generation`: covers no longer count on those it was given.

        That it has one is never believed, its slot may not be that of today: it shows by taking what is pushed. Who
        loses GKDKs too often is not believed either, and misses broadcasts.
        """
        given = [row.generation for row in self._store.slots.generations() if row.generation > (generation or 0)]
        slots = [slot for number in given if (slot := self._store.slots.active(pne_id, number)) and slot.delivered]
        if not slots or not self._losses.allow(pne_id, self._clock.monotonic()):
            return
        with self._store.transaction():
            for slot in slots:
                self._set_delivered(pne_id, slot.generation, False)

    def lacks_current(self, pne_id: str) -> bool:
        """Return True if a GKDK of the current generation waits for this PNE."""
        current = self._store.slots.current()
        if current is None:
            return False
        slot = self._store.slots.active(pne_id, current.generation)
        return slot is not None and not slot.delivered

    async def push(self, pne_id: str) -> bool:
        """Send the GKDK of the current generation over the session. Raises NoAnswer, MalformedMessage."""
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
        """Give a slot, to be pushed, to a PNE whose GKDK is of a slot that is not its any more: it will not ask.

        So it is after a restore, with who came in after the backup. It happens once a generation.
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
