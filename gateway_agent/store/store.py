"""The store of one PN GW: a folder with the database, the tree masters and the lock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway_agent.store.database import GatewayDatabase
from gateway_agent.store.delivery_table import DeliveryTable
from gateway_agent.store.errors import FAULTS, StoreDamaged
from gateway_agent.store.group_keys import GroupKeyTable
from gateway_agent.store.inventory import Inventory
from gateway_agent.store.personal_network import PersonalNetworkTable
from gateway_agent.store.slot_table import SlotTable
from gateway_agent.store.tree_masters import TreeMasters, fingerprint
from gateway_agent.store.update_table import UpdateTable
from private_store.folder_lock import FolderLock

DATABASE_FILE = "gateway.db"
_RESTORE = "Run `keycast gateway restore`: it starts a new generation and waits for new keys."


class GatewayStore:
    """The open store of one PN GW. Its tables are `pn`, `inventory`, `group_keys`, `slots`, `deliveries`
    and `updates`."""

    def __init__(self, folder: Path, *, restoring: bool = False) -> None:
        """Open the store in `folder`. Missing folders and files are created with modes 0700 and 0600.

        `restoring` skips the check that tree masters and database fit together. Raises StoreInUse, StoreDamaged.
        """
        self._lock = FolderLock(
            folder,
            "store.lock",
            what="the store",
            remedy="Stop it first, or use `keycast gateway` commands, which talk to the running gateway.",
            faults=FAULTS,
        )
        try:
            self.database = GatewayDatabase(folder / DATABASE_FILE)
        except BaseException:
            self._lock.release()
            raise
        try:
            self.tree_masters = TreeMasters(folder / "tree_masters")
            self.pn = PersonalNetworkTable(self.database)
            self.inventory = Inventory(self.database)
            self.group_keys = GroupKeyTable(self.database)
            self.slots = SlotTable(self.database)
            self.deliveries = DeliveryTable(self.database)
            self.updates = UpdateTable(self.database)
            if not restoring:
                self._match_tree_masters()
        except BaseException:
            self.close()
            raise

    def last_dated(self) -> int:
        """Return the latest moment of which something is stored, in Unix seconds by the clock of then; 0 for none."""
        heard = "SELECT coalesce(max(heard_at), 0) FROM pne"
        arrived = "SELECT coalesce(max(arrived_at), 0) FROM delivery"
        return max(map(self.database.number, (heard, arrived)))

    def close(self) -> None:
        """Close the database and release the lock of the folder."""
        self.database.close()
        self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Enter a context whose writes are all stored and synced at its end, or none of them. Contexts nest."""
        with self.database.transaction():
            yield

    def if_undone(self, go_back: Callable[[], None]) -> None:
        """Call `go_back` soon if nothing of the transaction that runs now is stored, to undo its changes in memory."""
        self.database.if_undone(go_back)

    def tree_master(self, generation: int) -> bytes:
        """Return the tree master of a generation that has not ended. Raises StoreDamaged if its file is missing."""
        secret = self.tree_masters.load(generation)
        if secret is None:
            raise StoreDamaged(f"The tree master of generation {generation} is missing.", _RESTORE)
        return secret

    def image(self) -> bytes:
        """Return the octets of a database file for a backup, without keys, covers, slots and deliveries (SEC-02).

        Nor are offers of updates in it, whose files are elsewhere. A gateway that opens it without a restore sends
        nothing and says why.
        """
        keys = ("recipient", "delivery", "gkek", "group_key", "slot", "block", "generation", "leftover_tree_master")
        gone = (*keys, "update_offer", "update_target")
        return self.database.image(
            *(f"DELETE FROM {table}" for table in gone),
            "UPDATE service_group SET waiting = 1",
            f"UPDATE pn SET receipt_key = X'', stopped = 'This is a backup. {_RESTORE}'",
        )

    def _match_tree_masters(self) -> None:
        known = {row.generation: row.fingerprint for row in self.slots.generations()}
        leftover = self.slots.leftover()
        for generation in self.tree_masters.generations():
            if generation in leftover:  # the power failed between the writes of row and file
                self.tree_masters.erase(generation)
            elif generation not in known:
                raise StoreDamaged(
                    f"There is a tree master of generation {generation}, which the inventory does not know.", _RESTORE
                )
        if leftover:
            with self.transaction():
                self.slots.forget_leftover()
        for generation, expected in known.items():
            if fingerprint(self.tree_master(generation)) != expected:
                raise StoreDamaged(
                    f"The tree master of generation {generation} and the inventory are of different age.", _RESTORE
                )
