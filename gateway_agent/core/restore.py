"""After a backup was put back, or the gateway was replaced (SEC-02, SEC-18): nothing old is used again.

Run while the gateway is stopped. What a backup does not hold cannot be trusted either: slots given out since, members
removed since, sequence numbers used since.
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
    """What is known of other restores, so that no generation is used twice: see `generations.restored`.

    `known`: the highest generation that is known from elsewhere than the store.
    """

    known: int = 0
    times: int = 1
    since_s: int = 0


@dataclass(frozen=True, slots=True)
class RestoredStore:
    """What `restore` did. The caller must drop the OSCORE contexts of all peers before the gateway starts."""

    generation: int
    waiting_groups: tuple[str, ...]
    pnes: tuple[str, ...]


def restore(
    store: GatewayStore, random: RandomOctets, *, height: int, unix: int, counted: Counted = Counted()
) -> RestoredStore:
    """Begin anew in `store`, which was opened with `restoring=True`.

    * all Group Keys, covers, deliveries, members, slots and tree masters go;
    * a new tree master, generation = highest known + 256 and more by `counted`, with a slot for every PNE present;
    * receipts given to PNEs are worth nothing any more (SEC-34);
    * every group waits: nothing goes out before the Server has told the members and issued a new key.

    A crash in between leaves the store stopped; running it again is safe. The members come back by the version list of
    the next start. Versions, which are floors, stay. Raises StoreDamaged, TooMany.
    """
    old = [row.generation for row in store.slots.generations()]
    files = store.tree_masters.generations()
    pn = store.pn.get()
    if pn is None:
        raise StoreDamaged("The store knows no PN.", "Put back a backup of this gateway, or set it up anew.")
    generation = restored(max([pn.last_generation, counted.known, *files]), counted.times, counted.since_s)
    if generation > GENERATION_MAX:
        raise TooMany(USED_UP)  # before anything is gone
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
