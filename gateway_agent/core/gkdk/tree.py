"""The PN GW's tree of GKDKs: the GKDK of each PNE (CPNS-GKM-25, -73) and the generations of the tree (SEC-07)."""

import logging

from cpns.broadcast_encryption.keys import TreeKeys
from cpns.errors import TooMany
from gateway_agent.core.gkdk import generations
from gateway_agent.core.gkdk.slots import choose_slot
from gateway_agent.core.ports import RandomOctets
from gateway_agent.store.slot_table import Generation
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.tree_masters import TREE_MASTER_LEN, fingerprint

_log = logging.getLogger(__name__)

PROFILE = 2


class Tree:
    """All generations of the tree that have not ended. Their secrets stay in the store's files and in this object."""

    def __init__(self, store: GatewayStore, random: RandomOctets, height: int) -> None:
        """`height`: a new generation has 2**height slots, or more if the PNEs need them. Raises ValueError."""
        if not generations.HEIGHT_MIN <= height <= generations.HEIGHT_MAX:
            raise ValueError(
                f"the height of the tree is {generations.HEIGHT_MIN}..{generations.HEIGHT_MAX}, not {height}"
            )
        self._store = store
        self._random = random
        self._height = height
        self._keys: dict[int, TreeKeys] = {}
        self._used_up_told = False

    def __repr__(self) -> str:
        return f"Tree(generations={[row.generation for row in self._store.slots.generations()]})"

    def keys(self, generation: int) -> TreeKeys | None:
        """Return the keys of a generation that has not ended, else None."""
        if generation not in self._keys:
            row = next((row for row in self._store.slots.generations() if row.generation == generation), None)
            if row is None:
                return None
            self._keys[generation] = TreeKeys(self._store.tree_master(generation), row.height)
        return self._keys[generation]

    def frame_keys(self, generation: int | None = None) -> list[bytes]:
        """Return the key of the adverts of a generation (SEC-10), or no key if it has ended.

        Without `generation`: the keys of all generations that have not ended, the current one first.
        """
        numbers = [row.generation for row in reversed(self._store.slots.generations())]
        every = (self.keys(number) for number in numbers if generation in (None, number))
        return [keys.frame_key() for keys in every if keys is not None]

    def current(self, unix: int) -> Generation:
        """Return the generation in which slots are assigned. If there is none the first one begins, dated `unix`."""
        return self._store.slots.current() or self.begin(unix)

    def record(self, pne_id: str, unix: int) -> tuple[int, bytes]:
        """Return the PNE's GKDK of the current generation as (generation, record).

        A PNE that has a slot gets the same record again (SEC-19). For another PNE a slot is made ACTIVE, and that is
        stored before the record is made. Raises TooMany when every slot is taken.
        """
        current = self.current(unix)
        slot = self._store.slots.active(pne_id, current.generation)
        if slot is None:
            self._assign(current, pne_id)
            slot = self._store.slots.active(pne_id, current.generation)
        keys = self.keys(current.generation)
        if slot is None or keys is None:
            raise AssertionError("a slot that was just assigned is missing")
        return current.generation, keys.record(current.profile, current.generation, slot.slot).pack()

    def begin(self, unix: int, generation: int | None = None, pne_ids: list[str] | None = None) -> Generation:
        """Begin a generation with a fresh tree master, its slots compacted by Service Group.

        `generation`: its number, by default the next; `pne_ids`: the PNEs that get a slot, by default those that have
        one now. The file of the tree master is on the disk before the row. Raises TooMany when all numbers are used up.
        """
        pn = self._store.pn.get()
        if pn is None:
            raise AssertionError("no PN yet")
        number = self._store.pn.next_generation() if generation is None else generation
        if number > generations.GENERATION_MAX:
            raise TooMany(generations.USED_UP)
        assigned = pne_ids
        if assigned is None:
            assigned = [pne_id for pne_id in self._store.pn.pnes() if self._has_slot(pne_id)]
        height = generations.height_for(len(assigned), self._height)
        assigned = self._by_group(assigned)[: 1 << height]  # PNEs for which the largest tree has no slot get unicasts
        secret = self._random(TREE_MASTER_LEN)
        with self._store.transaction():
            self._store.slots.add_leftover(number)  # in case the power fails before the next transaction
        self._store.tree_masters.create(number, secret)
        with self._store.transaction():
            self._store.slots.add_generation(number, height, PROFILE, fingerprint(secret), unix)
            self._store.slots.is_no_leftover(number)
            self._store.pn.set_last_generation(number)
            current = self._store.slots.generations()[-1]
            for pne_id in assigned:
                self._assign(current, pne_id)
        _log.info("generation %d of the tree begins: %d slots, %d in use", number, 1 << height, len(assigned))
        return current

    def end(self, generation: int) -> None:
        """Forget a generation: delete its rows first, then its secret."""
        with self._store.transaction():
            self._store.slots.end_generation(generation)
            self._store.slots.add_leftover(generation)
        self._keys.pop(generation, None)
        self._store.tree_masters.erase(generation)
        _log.info("generation %d of the tree has ended", generation)

    def maintain(self, elapsed_s: float, unix: int) -> bool:
        """Count `elapsed_s` seconds of running, and begin and end generations by the rules.

        `unix`: the date of a generation that begins, 0 if it is not known. Returns True if one began or ended.
        """
        if elapsed_s:
            with self._store.transaction():
                self._store.slots.count_lived(elapsed_s)
        changed = False
        current = self._store.slots.current()
        if current is not None:
            active, retired = self._store.slots.counts(current.generation)
            why = generations.why_new(current, active, retired)
            if why is not None and self._store.pn.next_generation() > generations.GENERATION_MAX:
                if not self._used_up_told:  # keys are still sent, under the last generation and by unicast
                    _log.warning("KC1034 a new generation is needed, %s; but %s", why, generations.USED_UP)
                self._used_up_told = True
            elif why is not None:
                _log.info("a new generation is needed: %s", why)
                current = self.begin(unix)
                changed = True
            missing = len(self._store.slots.undelivered(current.generation))
            for old in self._store.slots.generations():
                if generations.has_ended(old, missing):
                    self.end(old.generation)
                    changed = True
        return changed

    def _assign(self, current: Generation, pne_id: str) -> None:
        pne = self._store.pn.pne(pne_id)
        blocks = self._store.slots.blocks(current.generation)
        group = None if pne is None else pne.preferred_sg
        choice = choose_slot(current.height, self._store.slots.taken(current.generation), blocks, group)
        if choice is None:
            raise TooMany("every slot of the tree is taken; a new generation is needed")
        slot, block = choice
        with self._store.transaction():
            if block is not None and group is not None:
                self._store.slots.reserve(current.generation, block, group)
            self._store.slots.assign(current.generation, slot, pne_id)

    def _has_slot(self, pne_id: str) -> bool:
        return any(self._store.slots.active(pne_id, row.generation) for row in self._store.slots.generations())

    def _by_group(self, pne_ids: list[str]) -> list[str]:
        """Return the PNEs ordered so that those with the same groups are side by side, which keeps covers small."""
        return sorted(pne_ids, key=lambda pne_id: (self._store.inventory.groups_of(pne_id), pne_id))
