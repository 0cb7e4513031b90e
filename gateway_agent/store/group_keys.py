"""The table of Group Keys. It holds only the two newest of each Service Group (SEC-29)."""

from dataclasses import dataclass, field

from gateway_agent.store.database import GatewayDatabase

KEPT = 2


@dataclass(frozen=True, slots=True)
class GroupKey:
    """One Group Key. `activation`: Unix seconds, 0 for active at once; `reason`: one of `numbers.REASON_*`."""

    version: int
    key: bytes = field(repr=False)
    activation: int
    reason: int


class GroupKeyTable:
    """The table of Group Keys. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def newest(self, sg_id: str) -> GroupKey | None:
        """Return the key of the highest version, None if there is none."""
        sql = "SELECT version, key, activation, reason FROM group_key WHERE sg_id = ? ORDER BY version DESC"
        row = self._db.row(sql, sg_id)
        return None if row is None else GroupKey(*row)

    def get(self, sg_id: str, version: int) -> GroupKey | None:
        """Return the key of a version, None if it is not one of the two newest."""
        sql = "SELECT version, key, activation, reason FROM group_key WHERE sg_id = ? AND version = ?"
        row = self._db.row(sql, sg_id, version)
        return None if row is None else GroupKey(*row)

    def before(self, sg_id: str, version: int) -> int | None:
        """Return the version of the key before this one, None if it is not kept."""
        sql = "SELECT version FROM group_key WHERE sg_id = ? AND version < ? ORDER BY version DESC"
        row = self._db.row(sql, sg_id, version)
        return None if row is None else int(row[0])

    def add(self, sg_id: str, key: GroupKey) -> None:
        """Store the newest key and delete all but the two newest."""
        self._db.execute(
            "INSERT INTO group_key VALUES (?, ?, ?, ?, ?)", sg_id, key.version, key.key, key.activation, key.reason
        )
        old = self._db.execute(
            "DELETE FROM group_key WHERE sg_id = ?1 AND version NOT IN "
            "(SELECT version FROM group_key WHERE sg_id = ?1 ORDER BY version DESC LIMIT ?2)",
            sg_id,
            KEPT,
        )
        if old.rowcount:
            self._db.forget_log_after_commit()

    def delete_all(self, sg_id: str | None = None) -> None:
        """Delete the keys of one group, or of all groups."""
        if sg_id is None:
            self._db.execute("DELETE FROM group_key")
        else:
            self._db.execute("DELETE FROM group_key WHERE sg_id = ?", sg_id)
        self._db.forget_log_after_commit()
