"""The tables of the PN itself and of its PNEs."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from gateway_agent.store.database import GatewayDatabase, among


@dataclass(frozen=True, slots=True)
class PersonalNetwork:
    """The row of the table `pn`.

    `behind`: the store is new or restored, so the Server is expected to know more; `stopped`: why broadcasts and pulls
    are stopped (SEC-02), None if they are not.
    """

    pn_id: str
    gateway_id: str
    pn_alias: int
    last_generation: int
    signing_epoch: int
    behind: bool
    stopped: str | None


@dataclass(frozen=True, slots=True)
class Pne:
    """A row of the table `pne`. `held`: its joins and leaves are refused until a person releases it.

    Shown to people: `software`, the version of its agent as the PNE reports it; `heard_at` (Unix seconds, 0 for never),
    `heard_from` and `heard_link`, when, where and on which link the PNE was heard last.
    """

    pne_id: str
    retired: bool
    held: bool
    signing_epoch: int
    preferred_sg: str | None
    software: str
    heard_at: int
    heard_from: str
    heard_link: str


class PneShown(NamedTuple):
    """What people see of a PNE: some of the fields of `Pne`."""

    held: bool
    software: str
    heard_at: int
    heard_from: str
    heard_link: str


class PersonalNetworkTable:
    """The tables of the PN and its PNEs. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def get(self) -> PersonalNetwork | None:
        """Return the PN, or None before `create`."""
        row = self._db.row("SELECT * FROM pn")
        return (
            None
            if row is None
            else PersonalNetwork(
                row["pn_id"],
                row["gateway_id"],
                row["pn_alias"],
                row["last_generation"],
                row["signing_epoch"],
                bool(row["behind"]),
                row["stopped"],
            )
        )

    def create(self, pn_id: str, gateway_id: str, pn_alias: int) -> None:
        """Insert the only row of the PN."""
        self._db.execute(
            "INSERT INTO pn (only, pn_id, gateway_id, pn_alias) VALUES (1, ?, ?, ?)", pn_id, gateway_id, pn_alias
        )

    def stop(self, why: str | None) -> None:
        """Stop broadcasts and pulls for a reason, or allow them again with None."""
        self._db.execute("UPDATE pn SET stopped = ?", why)

    def receipt_key(self) -> bytes:
        """Return the key of the receipts of this store, empty before it has one."""
        row = self._db.row("SELECT receipt_key FROM pn")
        return b"" if row is None else bytes(row[0])

    def set_receipt_key(self, key: bytes) -> None:
        """Set the key of receipts. Receipts under an earlier key prove nothing from then on."""
        self._db.execute("UPDATE pn SET receipt_key = ?", key)

    def set_behind(self, behind: bool) -> None:
        """Set whether the Server is expected to know versions that this PN GW does not."""
        self._db.execute("UPDATE pn SET behind = ?", behind)

    def next_generation(self) -> int:
        """Return the number after the highest generation ever used."""
        return self._db.number("SELECT last_generation FROM pn") + 1

    def set_last_generation(self, generation: int) -> None:
        """Raise the highest generation ever used to `generation`; it is never lowered."""
        self._db.execute("UPDATE pn SET last_generation = max(last_generation, ?)", generation)

    def set_signing_epoch(self, epoch: int) -> None:
        """Set the epoch of the broadcast signing key in use."""
        self._db.execute("UPDATE pn SET signing_epoch = ?", epoch)

    def forget_signing_keys(self) -> None:
        """Begin with signing epoch 1 again, as the gateway gets a new identity: every PNE must be paired again."""
        self._db.execute("UPDATE pn SET signing_epoch = 1")
        self._db.execute("UPDATE pne SET signing_epoch = 1")
        self._db.execute("DELETE FROM roll_over")

    def pne(self, pne_id: str) -> Pne | None:
        """Return one PNE, present or retired, None if there is none."""
        row = self._db.row("SELECT * FROM pne WHERE pne_id = ?", pne_id)
        return None if row is None else _pne(row)

    def shown(self, pne_ids: Collection[str] | None = None) -> dict[str, PneShown]:
        """Return what people see of each PNE present, or of those of these, by PNE ID, ascending."""
        sql = (
            "SELECT pne_id, held, software, heard_at, heard_from, heard_link FROM pne"
            f" WHERE retired = 0 AND {among('pne_id', pne_ids)} ORDER BY pne_id"
        )
        return {row[0]: PneShown(bool(row[1]), *row[2:]) for row in self._db.rows(sql, *pne_ids or ())}

    def pnes(self) -> list[str]:
        """Return the PNE IDs of the PNEs present, ascending."""
        return [row[0] for row in self._db.rows("SELECT pne_id FROM pne WHERE retired = 0 ORDER BY pne_id")]

    def behind_signing_epoch(self) -> list[str]:
        """Return the PNE IDs of PNEs present that do not trust the present broadcast signing key yet (SEC-18)."""
        sql = "SELECT pne_id FROM pne WHERE retired = 0 AND signing_epoch < (SELECT signing_epoch FROM pn)"
        return [row[0] for row in self._db.rows(sql)]

    def register(self, pne_id: str, signing_epoch: int, preferred_sg: str | None = None) -> None:
        """Make a PNE present, a new or a retired one, that trusts the signing key of this epoch."""
        self._db.execute(
            "INSERT INTO pne (pne_id, signing_epoch, preferred_sg) VALUES (?, ?, ?) ON CONFLICT (pne_id) DO UPDATE "
            "SET retired = 0, held = 0, signing_epoch = excluded.signing_epoch, "
            "preferred_sg = excluded.preferred_sg, software = '', heard_at = 0, heard_from = '', heard_link = ''",
            pne_id,
            signing_epoch,
            preferred_sg,
        )

    def set_retired(self, pne_id: str) -> None:
        """Note that the PNE has left the PN."""
        self._db.execute("UPDATE pne SET retired = 1 WHERE pne_id = ?", pne_id)

    def set_held(self, pne_id: str, held: bool) -> None:
        """Hold the joins and leaves of a PNE, or release them."""
        self._db.execute("UPDATE pne SET held = ? WHERE pne_id = ?", held, pne_id)

    def set_software(self, pne_id: str, software: str) -> None:
        """Set the version of the agent that the PNE reports."""
        self._db.execute("UPDATE pne SET software = ? WHERE pne_id = ?", software, pne_id)

    def set_heard(self, pne_id: str, unix: int, place: str, link: str) -> None:
        """Set when (Unix seconds), where and on which link the PNE was heard last."""
        sql = "UPDATE pne SET heard_at = ?, heard_from = ?, heard_link = ? WHERE pne_id = ?"
        self._db.execute(sql, unix, place, link, pne_id)

    def set_trusted_epoch(self, pne_id: str, epoch: int) -> None:
        """Note that the PNE trusts the signing key of this epoch (SEC-18)."""
        self._db.execute("UPDATE pne SET signing_epoch = ? WHERE pne_id = ?", epoch, pne_id)

    def add_roll_over(self, epoch: int, message: bytes) -> None:
        """Store the announcement of a signing key for PNEs that are away."""
        self._db.execute("INSERT INTO roll_over VALUES (?, ?)", epoch, message)

    def roll_overs_after(self, epoch: int) -> list[tuple[int, bytes]]:
        """Return (epoch, RollOverRequest) of each announcement that a PNE which trusts `epoch` lacks, in order."""
        rows = self._db.rows("SELECT epoch, message FROM roll_over WHERE epoch > ? ORDER BY epoch", epoch)
        return [(row[0], row[1]) for row in rows]

    def add_pending_leave(self, sg_id: str, pne_id: str) -> None:
        """Store a leave that the Server has not acknowledged."""
        self._db.execute("INSERT OR IGNORE INTO pending_leave VALUES (?, ?)", sg_id, pne_id)

    def remove_pending_leave(self, sg_id: str, pne_id: str) -> None:
        """Delete a leave that the Server has acknowledged."""
        self._db.execute("DELETE FROM pending_leave WHERE sg_id = ? AND pne_id = ?", sg_id, pne_id)

    def pending_leaves(self) -> list[tuple[str, str]]:
        """Return (SG ID, PNE ID) of each leave that the Server has not acknowledged."""
        return [(row[0], row[1]) for row in self._db.rows("SELECT sg_id, pne_id FROM pending_leave ORDER BY 1, 2")]

    def add_pending_retirement(self, pne_id: str) -> None:
        """Store a retired name whose rights the Server has not ended yet."""
        self._db.execute("INSERT OR IGNORE INTO pending_retirement VALUES (?)", pne_id)

    def remove_pending_retirement(self, pne_id: str) -> None:
        """Delete a retired name whose rights the Server has ended."""
        self._db.execute("DELETE FROM pending_retirement WHERE pne_id = ?", pne_id)

    def pending_retirements(self) -> list[str]:
        """Return the names that may still have rights at the Server, from an earlier owner."""
        return [row[0] for row in self._db.rows("SELECT pne_id FROM pending_retirement ORDER BY 1")]

    def has_pending_retirement(self, pne_id: str) -> bool:
        """Return True if the name may still have rights at the Server, from an earlier owner."""
        return bool(self._db.number("SELECT count(*) FROM pending_retirement WHERE pne_id = ?", pne_id))

    def has_pending_leave(self, sg_id: str, pne_id: str) -> bool:
        """Return True if the Server has not acknowledged a leave of the PNE and may count it as a member."""
        sql = "SELECT count(*) FROM pending_leave WHERE sg_id = ? AND pne_id = ?"
        return bool(self._db.number(sql, sg_id, pne_id))


def _pne(row: sqlite3.Row) -> Pne:
    return Pne(
        row["pne_id"],
        bool(row["retired"]),
        bool(row["held"]),
        row["signing_epoch"],
        row["preferred_sg"],
        row["software"],
        row["heard_at"],
        row["heard_from"],
        row["heard_link"],
    )
