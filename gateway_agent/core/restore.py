"""Begins the store anew after a backup was put back or the gateway was replaced (SEC-02, SEC-18).

It runs while the gateway is stopped. Nothing old is used again, because a backup does not know what happened after it
was made: which slots were given out, which members were removed, which sequence numbers were used.
"""

from dataclasses import dataclass

from cpns.errors import TooMany
from gateway_agent.core import receipts
from gateway_agent.core.gkdk.generations import GENERATION_MAX, USED_UP, restored
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.old_copy import NEXT_STEP
from gateway_agent.core.ports import RandomOctets
from gateway_agent.store.errors import StoreDamaged
from gateway_agent.store.store import GatewayStore


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known of other restores, so that no generation is used twice; `generations.restored` explains the parts.

    `known`: the highest generation that is known from another source than the store.
    """

    known: int = 0
    times: int = 1
    since_s: int = 0


@dataclass(frozen=True, slots=True)
class RestoredStore:
    """The result of `restore`. The caller must drop the OSCORE contexts of all peers before the gateway starts.

    `waiting_groups`: SG IDs of the groups that wait for the Server; `pnes`: PNE IDs of the PNEs present.
    """

    generation: int
    waiting_groups: tuple[str, ...]
    pnes: tuple[str, ...]


def restore(
    store: GatewayStore, random: RandomOctets, *, height: int, unix: int, counted: Counted = Counted()
) -> RestoredStore:
    """Begin anew in `store`, which was opened with `restoring=True`.

    * All Group Keys, covers, deliveries, members, slots and tree masters are deleted.
    * A new generation of the tree begins, with a slot for every PNE present. Its number is at least the highest known
      one + 256; `counted` may raise it.
    * Receipts that PNEs hold prove nothing any more (SEC-34).
    * Every group waits: nothing is sent before the Server has named the members and issued a new key.

    After a crash in between the store stays stopped, and `restore` may be run again. The members come back with the
    version list of the next start. Versions stay, as they are floors. Raises StoreDamaged, TooMany.
    """
    old = [row.generation for row in store.slots.generations()]
    files = store.tree_masters.generations()
    pn = store.pn.get()
    if pn is None:
        raise StoreDamaged("The store knows no PN.", "Put back a backup of this gateway, or set it up anew.")
    generation = restored(max([pn.last_generation, counted.known, *files]), counted.times, counted.since_s)
    if generation > GENERATION_MAX:
        raise TooMany(USED_UP)  # before anything is deleted
    with store.transaction():
        store.pn.stop(f"a restore was interrupted: {NEXT_STEP} again")
        store.pn.set_last_generation(generation)
        store.pn.set_behind(True)
        store.pn.set_receipt_key(random(receipts.KEY_LEN))
        store.deliveries.delete_all()
        store.group_keys.delete_all()
        store.inventory.mark_all_waiting()
        for number in old:
            store.slots.end_generation(number)
        for number in files:
            store.slots.add_leftover(number)
    for number in files:
        store.tree_masters.erase(number)
    pnes = store.pn.pnes()
    Tree(store, random, height).begin(unix, generation, pnes)
    with store.transaction():
        store.pn.stop(None)
    return RestoredStore(generation, tuple(group.sg_id for group in store.inventory.groups()), tuple(pnes))
