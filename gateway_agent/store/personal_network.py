"""The PN itself and the PNEs that belong to it."""

from dataclasses import dataclass

from gateway_agent.store.database import GatewayDatabase


@dataclass(frozen=True, slots=True)
class PersonalNetwork:
    """Row `pn`.

    `behind`: new or restored, so the Server is expected to know more; `stopped`: why broadcasts and pulls are stopped
    (SEC-02), None if they are not.
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
    """Row `pne`. `held`: its joins and leaves wait for a person.

    For people to see: `software` of its agent as it says itself, `heard_at` (Unix seconds, 0 never) and `heard_from`.
    """

    pne_id: str
    retired: bool
    held: bool
    signing_epoch: int
    preferred_sg: str | None
    software: str
    heard_at: int
    heard_from: str


class PersonalNetworkTable:
    """PN and PNEs. Every write belongs inside a transaction of the store."""

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
        """Write the PN's only row."""
        self._db.execute(
            "INSERT INTO pn (only, pn_id, gateway_id, pn_alias) VALUES (1, ?, ?, ?)", pn_id, gateway_id, pn_alias
        )

    def stop(self, why: str | None) -> None:
        """Stop broadcasts and pulls, or with None let them go on."""
        self._db.execute("UPDATE pn SET stopped = ?", why)

    def receipt_key(self) -> bytes:
        """Return the key of the receipts of this store, empty before it has one."""
        row = self._db.row("SELECT receipt_key FROM pn")
        return b"" if row is None else bytes(row[0])

    def set_receipt_key(self, key: bytes) -> None:
        """Make receipts under another key from now on: those of before prove nothing."""
        self._db.execute("UPDATE pn SET receipt_key = ?", key)

    def set_behind(self, behind: bool) -> None:
        """Whether the Server may rightly know versions that this PN GW does not."""
        self._db.execute("UPDATE pn SET behind = ?", behind)

    def next_generation(self) -> int:
        """Return the number after the highest generation ever used."""
        return self._db.number("SELECT last_generation FROM pn") + 1

    def set_last_generation(self, generation: int) -> None:
        """The highest generation ever used; it never falls."""
        self._db.execute("UPDATE pn SET last_generation = max(last_generation, ?)", generation)

    def set_signing_epoch(self, epoch: int) -> None:
        """The epoch of the broadcast signing key in use."""
        self._db.execute("UPDATE pn SET signing_epoch = ?", epoch)

    def pne(self, pne_id: str) -> Pne | None:
        """One PNE, present or retired."""
        row = self._db.row("SELECT * FROM pne WHERE pne_id = ?", pne_id)
        return (
            None
            if row is None
            else Pne(
                row["pne_id"],
                bool(row["retired"]),
                bool(row["held"]),
                row["signing_epoch"],
                row["preferred_sg"],
                row["software"],
                row["heard_at"],
                row["heard_from"],
            )
        )

    def pnes(self) -> list[str]:
        """Names of the PNEs present, ascending."""
        return [row[0] for row in self._db.rows("SELECT pne_id FROM pne WHERE retired = 0 ORDER BY pne_id")]

    def behind_signing_epoch(self) -> list[str]:
        """PNEs present that were not told today's broadcast signing key yet (SEC-18)."""
        sql = "SELECT pne_id FROM pne WHERE retired = 0 AND signing_epoch < (SELECT signing_epoch FROM pn)"
        return [row[0] for row in self._db.rows(sql)]

    def register(self, pne_id: str, signing_epoch: int, preferred_sg: str | None = None) -> None:
        """Make a PNE present, new or back again, with the signing key it was given."""
        self._db.execute(
            "INSERT INTO pne (pne_id, signing_epoch, preferred_sg) VALUES (?, ?, ?) ON CONFLICT (pne_id) DO UPDATE "
            "SET retired = 0, held = 0, signing_epoch = excluded.signing_epoch, "
            "preferred_sg = excluded.preferred_sg, software = '', heard_at = 0, heard_from = ''",
            pne_id,
            signing_epoch,
            preferred_sg,
        )

    def set_retired(self, pne_id: str) -> None:
        """The PNE has left the PN."""
        self._db.execute("UPDATE pne SET retired = 1 WHERE pne_id = ?", pne_id)

    def set_held(self, pne_id: str, held: bool) -> None:
        """Hold its joins and leaves, or release them."""
        self._db.execute("UPDATE pne SET held = ? WHERE pne_id = ?", held, pne_id)

    def set_software(self, pne_id: str, software: str) -> None:
        """What the PNE says it runs."""
        self._db.execute("UPDATE pne SET software = ? WHERE pne_id = ?", software, pne_id)

    def set_heard(self, pne_id: str, unix: int, place: str) -> None:
        """When and where the PNE was heard last."""
        self._db.execute("UPDATE pne SET heard_at = ?, heard_from = ? WHERE pne_id = ?", unix, place, pne_id)

    def set_trusted_epoch(self, pne_id: str, epoch: int) -> None:
        """The PNE now trusts the signing key of this epoch (SEC-18)."""
        self._db.execute("UPDATE pne SET signing_epoch = ? WHERE pne_id = ?", epoch, pne_id)

    def add_roll_over(self, epoch: int, message: bytes) -> None:
        """Keep the announcement of a signing key for PNEs that were away."""
        self._db.execute("INSERT INTO roll_over VALUES (?, ?)", epoch, message)

    def roll_overs_after(self, epoch: int) -> list[tuple[int, bytes]]:
        """Return (epoch, RollOverRequest) that a PNE which trusts `epoch` still has to hear, in order."""
        rows = self._db.rows("SELECT epoch, message FROM roll_over WHERE epoch > ? ORDER BY epoch", epoch)
        return [(row[0], row[1]) for row in rows]

    def add_pending_leave(self, sg_id: str, pne_id: str) -> None:
        """Remember a leave until the Server has acknowledged it."""
        self._db.execute("INSERT OR IGNORE INTO pending_leave VALUES (?, ?)", sg_id, pne_id)

    def remove_pending_leave(self, sg_id: str, pne_id: str) -> None:
        """The Server knows."""
        self._db.execute("DELETE FROM pending_leave WHERE sg_id = ? AND pne_id = ?", sg_id, pne_id)

    def pending_leaves(self) -> list[tuple[str, str]]:
        """Return (SG ID, PNE ID) of the leaves the Server has not acknowledged."""
        return [(row[0], row[1]) for row in self._db.rows("SELECT sg_id, pne_id FROM pending_leave ORDER BY 1, 2")]

    def add_pending_retirement(self, pne_id: str) -> None:
        """Remember that a name was retired until the Server has ended every right of it."""
        self._db.execute("INSERT OR IGNORE INTO pending_retirement VALUES (?)", pne_id)

    def remove_pending_retirement(self, pne_id: str) -> None:
        """The Server knows."""
        self._db.execute("DELETE FROM pending_retirement WHERE pne_id = ?", pne_id)

    def pending_retirements(self) -> list[str]:
        """Names that may still have rights at the Server, of whoever had them before."""
        return [row[0] for row in self._db.rows("SELECT pne_id FROM pending_retirement ORDER BY 1")]

    def has_pending_retirement(self, pne_id: str) -> bool:
        """Return True if the name may still have rights at the Server, of whoever had it before."""
        return bool(self._db.number("SELECT count(*) FROM pending_retirement WHERE pne_id = ?", pne_id))

    def has_pending_leave(self, sg_id: str, pne_id: str) -> bool:
        """Return True if the Server may still believe that the PNE is a member."""
        sql = "SELECT count(*) FROM pending_leave WHERE sg_id = ? AND pne_id = ?"
        return bool(self._db.number(sql, sg_id, pne_id))
