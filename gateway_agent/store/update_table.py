"""The tables of updates: what is offered to which boards, and what boards have said about it.

The rows are plain: `gateway_agent.updates` knows what they mean.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from gateway_agent.store.database import GatewayDatabase

BOARD, GROUP = "board", "group"


@dataclass(frozen=True, slots=True)
class StoredOffer:
    """An offer: of the update with this ID, to these boards and the members of these groups; to all without any.

    `sealed_for`: SG ID of the group under whose key it is broadcast, "" for none; `position`: how many datagrams of its
    airing are sent; `offered_at`: Unix seconds.
    """

    update_id: bytes
    boards: frozenset[str]
    groups: frozenset[str]
    by_broadcast: bool
    sealed_for: str
    position: int
    offered_at: int


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A row of the table `update_report`. `class_ids`: 16 octets each, one after another; `since`: Unix seconds."""

    pne_id: str
    class_ids: bytes
    key_id: bytes
    agent_number: int
    firmware_number: int
    state: int
    wanted: int
    detail: int
    since: int


_COLUMNS = ", ".join(each.name for each in fields(StoredReport))


class UpdateTable:
    """The tables of updates. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def offers(self) -> list[StoredOffer]:
        """Return all offers, oldest first."""
        targets: dict[bytes, dict[str, set[str]]] = {}
        for row in self._db.rows("SELECT update_id, what, name FROM update_target"):
            targets.setdefault(row[0], {BOARD: set(), GROUP: set()})[row[1]].add(row[2])
        found = []
        for row in self._db.rows("SELECT * FROM update_offer ORDER BY offered_at, update_id"):
            of = targets.get(row["update_id"], {BOARD: set(), GROUP: set()})
            how = bool(row["by_broadcast"]), row["sealed_for"], row["position"], row["offered_at"]
            found.append(StoredOffer(row["update_id"], frozenset(of[BOARD]), frozenset(of[GROUP]), *how))
        return found

    def set_offers(self, offers: Iterable[StoredOffer]) -> None:
        """Replace all offers."""
        self._db.execute("DELETE FROM update_target")
        self._db.execute("DELETE FROM update_offer")
        for each in offers:
            self._db.execute(
                "INSERT INTO update_offer (update_id, by_broadcast, sealed_for, position, offered_at)"
                " VALUES (?, ?, ?, ?, ?)",
                each.update_id,
                each.by_broadcast,
                each.sealed_for,
                each.position,
                each.offered_at,
            )
            rows = [(each.update_id, BOARD, name) for name in each.boards]
            rows += [(each.update_id, GROUP, name) for name in each.groups]
            self._db.many("INSERT INTO update_target (update_id, what, name) VALUES (?, ?, ?)", rows)

    def set_position(self, update_id: bytes, position: int) -> None:
        """Set how many datagrams of an airing are sent."""
        self._db.execute("UPDATE update_offer SET position = ? WHERE update_id = ?", position, update_id)

    def reports(self) -> list[StoredReport]:
        """Return what each board has said last."""
        return [StoredReport(*row) for row in self._db.rows(f"SELECT {_COLUMNS} FROM update_report")]

    def put_reports(self, reports: Iterable[StoredReport]) -> None:
        """Store what boards have said, in the place of what they said before."""
        self._db.many(
            f"INSERT OR REPLACE INTO update_report ({_COLUMNS}) VALUES ({', '.join('?' * len(fields(StoredReport)))})",
            map(astuple, reports),
        )

    def delete_reports(self, pne_ids: Iterable[str]) -> None:
        """Delete what these boards have said."""
        self._db.many("DELETE FROM update_report WHERE pne_id = ?", [(pne_id,) for pne_id in pne_ids])
