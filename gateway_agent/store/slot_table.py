"""The tables of the tree's generations and of the slots of PNEs. A slot without a row is FREE."""

import sqlite3
from dataclasses import dataclass

from gateway_agent.store.database import GatewayDatabase


@dataclass(frozen=True, slots=True)
class Generation:
    """A row of the table `generation`. `lived_s`: its age in seconds of running (SEC-36).

    `born_unix`: Unix seconds of its beginning for people, 0 if not known; `replaced_lived_s`: the age at which the next
    generation began, None if none has.
    """

    generation: int
    height: int
    profile: int
    fingerprint: bytes
    lived_s: float
    born_unix: int
    replaced: bool
    replaced_lived_s: float | None

    @property
    def size(self) -> int:
        """The number of slots."""
        return 1 << self.height


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that is ACTIVE or RETIRED. `delivered`: its PNE has got the GKDK."""

    generation: int
    slot: int
    pne_id: str
    retired: bool
    delivered: bool


class SlotTable:
    """The tables of generations and slots. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def generations(self) -> list[Generation]:
        """Return the generations that have not ended, oldest first; the last one is current."""
        return [_generation(row) for row in self._db.rows("SELECT * FROM generation ORDER BY generation")]

    def current(self) -> Generation | None:
        """Return the generation from which GKDKs are assigned, None if there is none."""
        row = self._db.row("SELECT * FROM generation WHERE replaced = 0")
        return None if row is None else _generation(row)

    def add_generation(self, generation: int, height: int, profile: int, fingerprint: bytes, unix: int) -> None:
        """Add a generation, which replaces the current one. `unix`: Unix seconds of its beginning, 0 if not known."""
        self._db.execute("UPDATE generation SET replaced = 1, replaced_lived_s = lived_s WHERE replaced = 0")
        self._db.execute(
            "INSERT INTO generation (generation, height, profile, fingerprint, born_unix) VALUES (?, ?, ?, ?, ?)",
            generation,
            height,
            profile,
            fingerprint,
            unix,
        )

    def count_lived(self, seconds: float) -> None:
        """Add seconds of running to the age of all generations."""
        self._db.execute("UPDATE generation SET lived_s = lived_s + ?", seconds)

    def end_generation(self, generation: int) -> None:
        """Forget a generation with its slots and covers."""
        for table in ("gkek", "slot", "block", "generation"):
            self._db.execute(f"DELETE FROM {table} WHERE generation = ?", generation)

    def add_leftover(self, generation: int) -> None:
        """Note that a generation has no row, so the file of its tree master, if any, must be erased (SEC-37)."""
        self._db.execute("INSERT OR IGNORE INTO leftover_tree_master VALUES (?)", generation)

    def is_no_leftover(self, generation: int) -> None:
        """Note that the tree master's file of a generation belongs to a row and must not be erased."""
        self._db.execute("DELETE FROM leftover_tree_master WHERE generation = ?", generation)

    def leftover(self) -> set[int]:
        """Return the generations whose tree master's file must be erased."""
        return {row[0] for row in self._db.rows("SELECT generation FROM leftover_tree_master")}

    def forget_leftover(self) -> None:
        """Note that all files of `leftover` are erased."""
        self._db.execute("DELETE FROM leftover_tree_master")

    def slots(self, generation: int) -> list[Slot]:
        """Return the slots that are ACTIVE or RETIRED, ascending."""
        sql = "SELECT generation, slot, pne_id, retired, delivered FROM slot WHERE generation = ? ORDER BY slot"
        return [Slot(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in self._db.rows(sql, generation)]

    def taken(self, generation: int) -> set[int]:
        """Return the numbers of the slots that are not FREE."""
        return {row[0] for row in self._db.rows("SELECT slot FROM slot WHERE generation = ?", generation)}

    def counts(self, generation: int) -> tuple[int, int]:
        """Return (number of ACTIVE slots, number of RETIRED slots)."""
        row = self._db.row(
            "SELECT count(*) - total(retired), total(retired) FROM slot WHERE generation = ?", generation
        )
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def active(self, pne_id: str, generation: int) -> Slot | None:
        """Return the PNE's ACTIVE slot in a generation, None if there is none."""
        sql = "SELECT * FROM slot WHERE pne_id = ? AND generation = ? AND retired = 0"
        row = self._db.row(sql, pne_id, generation)
        return (
            None if row is None else Slot(row["generation"], row["slot"], row["pne_id"], False, bool(row["delivered"]))
        )

    def owner(self, generation: int, slot: int) -> str | None:
        """Return the PNE ID of the PNE whose ACTIVE slot this is, None if it is not ACTIVE."""
        sql = "SELECT pne_id FROM slot WHERE generation = ? AND slot = ? AND retired = 0"
        row = self._db.row(sql, generation, slot)
        return None if row is None else row["pne_id"]

    def was_given(self, pne_id: str, generation: int, slot: int) -> bool:
        """Return True if this slot is ACTIVE or RETIRED and belongs to the PNE."""
        sql = "SELECT 1 FROM slot WHERE generation = ? AND slot = ? AND pne_id = ?"
        return self._db.row(sql, generation, slot, pne_id) is not None

    def assign(self, generation: int, slot: int, pne_id: str) -> None:
        """Make a FREE slot ACTIVE for a PNE."""
        sql = "INSERT INTO slot (generation, slot, pne_id) VALUES (?, ?, ?)"
        self._db.execute(sql, generation, slot, pne_id)

    def set_delivered(self, pne_id: str, generation: int, delivered: bool) -> bool:
        """Note that the PNE has got the GKDK of its ACTIVE slot, or has lost it. Returns False if nothing changed."""
        sql = "UPDATE slot SET delivered = ?1 WHERE pne_id = ?2 AND generation = ?3 AND retired = 0 AND delivered <> ?1"
        return self._db.execute(sql, delivered, pne_id, generation).rowcount == 1

    def retire(self, pne_id: str) -> None:
        """Make the PNE's slots RETIRED in every generation. A RETIRED slot is never used again."""
        self._db.execute("UPDATE slot SET retired = 1 WHERE pne_id = ?", pne_id)

    def undelivered(self, generation: int) -> list[str]:
        """Return the PNE IDs with an ACTIVE slot whose GKDK is not delivered, ascending."""
        sql = "SELECT pne_id FROM slot WHERE generation = ? AND retired = 0 AND delivered = 0 ORDER BY pne_id"
        return [row[0] for row in self._db.rows(sql, generation)]

    def blocks(self, generation: int) -> dict[int, str]:
        """Return the reserved blocks of 8 slots, as block number -> SG ID."""
        sql = "SELECT block, sg_id FROM block WHERE generation = ?"
        return {row[0]: row[1] for row in self._db.rows(sql, generation)}

    def reserve(self, generation: int, block: int, sg_id: str) -> None:
        """Reserve a block of slots for one Service Group."""
        self._db.execute("INSERT INTO block VALUES (?, ?, ?)", generation, block, sg_id)


def _generation(row: sqlite3.Row) -> Generation:
    values = dict(row)
    values["replaced"] = bool(values["replaced"])
    return Generation(**values)
