"""The tables of deliveries and of the state of each of their PNEs, from which a restart continues."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cpns import delivery_report
from gateway_agent.store.database import GatewayDatabase, among


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A row of the table `delivery`. `phase`: "waiting" (for the membership), "running", "finished" or "superseded".

    `membership`: the count of GKEK changes when the delivery started; `revision`: the revision of the membership that
    the Server has named with the key; `reported`: False while a delivery report is due. `arrived_at`, `began_at` and
    `ended_at`: when the key came, when it was sent first, and when the delivery ended first, in Unix seconds; 0 for not
    yet, for not known, or if the clock was not synchronised.
    """

    sg_id: str
    version: int
    membership: int
    revision: int
    phase: str
    reported: bool
    arrived_at: int = 0
    began_at: int = 0
    ended_at: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """How the delivery to one PNE went. `state`: a word of `core.delivering.delivery.PneState`.

    `link`: on which link the key came to a PNE that has confirmed it, a word of `cpns.delivery_report`, "" for none;
    `tries`: how often it was sent the key; `confirmed_at`: Unix seconds, 0 if the clock was not synchronised.
    """

    state: str
    link: str = ""
    tries: int = 0
    confirmed_at: int = 0


_DELIVERY = "sg_id, version, membership, revision, phase, reported, arrived_at, began_at, ended_at"


class DeliveryCounts(NamedTuple):
    """How many PNEs a delivery is for, and how many of them are in these states.

    `by_broadcast`: how many of the `confirmed` ones got the key by broadcast.
    """

    members: int
    confirmed: int
    unreachable: int
    by_broadcast: int


class KeyEvidence(NamedTuple):
    """What is stored about a PNE and the key of a version: some of the fields of `DeliveryOutcome`."""

    version: int
    link: str
    tries: int
    confirmed_at: int


class DeliveryTable:
    """The tables of deliveries. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def get(self, sg_id: str, version: int) -> StoredDelivery | None:
        """Return the delivery of a version, None if there is none."""
        row = self._db.row(f"SELECT {_DELIVERY} FROM delivery WHERE sg_id = ? AND version = ?", sg_id, version)
        return None if row is None else _delivery(row)

    def all(self, sg_ids: Collection[str] | None = None) -> list[StoredDelivery]:
        """Return all deliveries, or those of these groups, ordered by SG ID, the newest of each group first."""
        sql = f"SELECT {_DELIVERY} FROM delivery WHERE {among('sg_id', sg_ids)} ORDER BY sg_id, version DESC"
        return [_delivery(row) for row in self._db.rows(sql, *sg_ids or ())]

    def counts(self, sg_ids: Collection[str] | None = None) -> dict[tuple[str, int], DeliveryCounts]:
        """Return how the delivery of each version went, by SG ID and version, of all groups, or of these.

        One without PNEs is not in it.
        """
        sql = (
            "SELECT sg_id, version, count(*), sum(state = 'confirmed'), sum(state = 'unreachable'),"
            " sum(state = 'confirmed' AND link IN (?, ?)) FROM recipient"
            f" WHERE state != 'excluded' AND {among('sg_id', sg_ids)} GROUP BY sg_id, version"
        )
        rows = self._db.rows(sql, delivery_report.WIFI, delivery_report.BLE, *sg_ids or ())
        return {(sg_id, version): DeliveryCounts(*counts) for sg_id, version, *counts in rows}

    def newest(self, sg_ids: Collection[str] | None = None) -> list[tuple[str, str, str, KeyEvidence]]:
        """Return (SG ID, PNE ID, state, evidence) of each PNE of the delivery of each group's newest version.

        Of all groups, or of these.
        """
        sql = (
            "SELECT r.sg_id, r.pne_id, r.state, r.version, r.link, r.tries, r.confirmed_at FROM service_group g"
            f" JOIN recipient r ON r.sg_id = g.sg_id AND r.version = g.version WHERE {among('g.sg_id', sg_ids)}"
        )
        return [(row[0], row[1], row[2], KeyEvidence(*row[3:])) for row in self._db.rows(sql, *sg_ids or ())]

    def confirmed_before(self, sg_ids: Collection[str] | None = None) -> list[tuple[str, str, KeyEvidence]]:
        """Return (SG ID, PNE ID, evidence) of the earlier keys that a PNE has confirmed if it has not the newest one.

        Of all groups, or of these. Those of earlier versions come first.
        """
        sql = (
            "SELECT r.sg_id, r.pne_id, r.version, r.link, r.tries, r.confirmed_at FROM service_group g"
            " JOIN recipient r ON r.sg_id = g.sg_id AND r.version != g.version AND r.state = 'confirmed'"
            f" WHERE {among('g.sg_id', sg_ids)}"
            " AND NOT EXISTS (SELECT 1 FROM recipient n WHERE n.sg_id = g.sg_id AND n.version = g.version"
            " AND n.pne_id = r.pne_id AND n.state = 'confirmed') ORDER BY r.version"
        )
        return [(row[0], row[1], KeyEvidence(*row[2:])) for row in self._db.rows(sql, *sg_ids or ())]

    def in_phase(self, phase: str) -> list[StoredDelivery]:
        """Return all deliveries in a phase."""
        rows = self._db.rows(f"SELECT {_DELIVERY} FROM delivery WHERE phase = ? ORDER BY sg_id, version", phase)
        return [_delivery(row) for row in rows]

    def unreported(self) -> list[StoredDelivery]:
        """Return the deliveries that have ended and whose report the Server has not accepted."""
        rows = self._db.rows(
            f"SELECT {_DELIVERY} FROM delivery WHERE reported = 0 AND phase IN ('finished', 'superseded')"
        )
        return [_delivery(row) for row in rows]

    def add(self, sg_id: str, version: int, membership: int, revision: int, arrived_at: int = 0) -> None:
        """Add a delivery in phase "waiting", whose key came at `arrived_at` (Unix seconds).

        Deliveries of versions whose key is deleted are deleted.
        """
        for table in ("recipient", "delivery"):
            self._db.execute(
                f"DELETE FROM {table} WHERE sg_id = ?1 AND version NOT IN "
                f"(SELECT version FROM group_key WHERE sg_id = ?1)",
                sg_id,
            )
        self._db.execute(
            "INSERT INTO delivery (sg_id, version, membership, revision, phase, arrived_at)"
            " VALUES (?, ?, ?, ?, 'waiting', ?)",
            sg_id,
            version,
            membership,
            revision,
            arrived_at,
        )

    def start(
        self, sg_id: str, version: int, membership: int, recipients: Mapping[str, str], began_at: int = 0
    ) -> None:
        """Set the phase to "running", from `began_at` (Unix seconds) on, with these PNEs in these states."""
        sql = "UPDATE delivery SET phase = 'running', membership = ?, began_at = ? WHERE sg_id = ? AND version = ?"
        self._db.execute(sql, membership, began_at, sg_id, version)
        self._db.many(
            "INSERT OR REPLACE INTO recipient (sg_id, version, pne_id, state) VALUES (?, ?, ?, ?)",
            [(sg_id, version, pne_id, state) for pne_id, state in recipients.items()],
        )

    def set_phase(self, sg_id: str, version: int, phase: str, now: int = 0) -> None:
        """Set the phase at `now` (Unix seconds). A delivery that has ended has a report due from then on."""
        self._db.execute(
            "UPDATE delivery SET phase = ?1, reported = 0, ended_at = CASE WHEN ended_at = 0"
            " AND ?1 IN ('finished', 'superseded') THEN ?4 ELSE ended_at END WHERE sg_id = ?2 AND version = ?3",
            phase,
            sg_id,
            version,
            now,
        )

    def set_reported(self, sg_id: str, version: int, reported: bool) -> None:
        """Note that the Server has accepted the report, or that a new one is due."""
        sql = "UPDATE delivery SET reported = ? WHERE sg_id = ? AND version = ?"
        self._db.execute(sql, reported, sg_id, version)

    def set_outcomes(self, sg_id: str, version: int, outcomes: Mapping[str, DeliveryOutcome]) -> None:
        """Set the outcomes of some PNEs, also of new ones.

        One that is excluded keeps what is stored about its confirmation.
        """
        self._db.many(
            "INSERT INTO recipient (state, link, tries, confirmed_at, sg_id, version, pne_id)"
            " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 FROM delivery WHERE sg_id = ?5 AND version = ?6"
            " ON CONFLICT (sg_id, version, pne_id) DO UPDATE SET state = ?1, tries = max(tries, ?3),"
            " link = CASE ?1 WHEN 'confirmed' THEN ?2 ELSE link END,"
            " confirmed_at = CASE ?1 WHEN 'confirmed' THEN ?4 ELSE confirmed_at END",
            [(of.state, of.link, of.tries, of.confirmed_at, sg_id, version, pne_id) for pne_id, of in outcomes.items()],
        )

    def exclude(self, sg_id: str, pne_ids: Iterable[str]) -> None:
        """Exclude these PNEs from every delivery of the group."""
        self._db.many(
            "UPDATE recipient SET state = 'excluded' WHERE sg_id = ? AND pne_id = ?",
            [(sg_id, pne_id) for pne_id in pne_ids],
        )

    def states(self, sg_id: str, version: int) -> dict[str, str]:
        """Return the state of each PNE of a delivery, by PNE ID."""
        sql = "SELECT pne_id, state FROM recipient WHERE sg_id = ? AND version = ? ORDER BY pne_id"
        return {row[0]: row[1] for row in self._db.rows(sql, sg_id, version)}

    def outcomes(self, sg_id: str, version: int) -> dict[str, DeliveryOutcome]:
        """Return the outcome of each PNE of a delivery, by PNE ID."""
        sql = "SELECT pne_id, state, link, tries, confirmed_at FROM recipient WHERE sg_id = ? AND version = ?"
        return {row[0]: DeliveryOutcome(*row[1:]) for row in self._db.rows(sql, sg_id, version)}

    def delete_all(self, sg_id: str | None = None) -> None:
        """Delete the deliveries of one group, or of all groups."""
        for table in ("recipient", "delivery"):
            if sg_id is None:
                self._db.execute(f"DELETE FROM {table}")
            else:
                self._db.execute(f"DELETE FROM {table} WHERE sg_id = ?", sg_id)


def _delivery(row: sqlite3.Row) -> StoredDelivery:
    sg_id, version, membership, revision, phase, reported, *times = row
    return StoredDelivery(sg_id, version, membership, revision, phase, bool(reported), *times)
