"""The SG Inventory: Service Groups, their members in this PN, and the GKEK of each (CPNS-GKM-27, -35)."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cpns import name_rule
from cpns.errors import TooMany
from gateway_agent.store.database import GatewayDatabase, among

ALIAS_MAX = 0xFFFF
NO_STATE = "none"
_STATES = ("pending", "sent", "confirmed", "unreachable", "excluded")  # of the table `recipient`


@dataclass(frozen=True, slots=True)
class ServiceGroup:
    """A row of the table `service_group`.

    `version` is the highest ever stored, `revision` that of the stored membership, `wanted_revision` the highest that
    the Server has named. `membership` counts changes of the GKEK. `exposed_version`: a PNE that is no member knows the
    key of this version (SEC-06). `waiting`: no key is sent before a new one has come (SEC-02). `end_to_end`: this PN GW
    carries the keys of the group and cannot read them, for ever (SEC-26); `version` is then the highest one carried.
    """

    sg_id: str
    alias: int
    protection: int | None
    version: int
    revision: int
    wanted_revision: int
    membership: int
    exposed_version: int | None
    waiting: bool
    deleted: bool
    end_to_end: bool

    @property
    def exposed(self) -> bool:
        """True from a leave until a newer Group Key."""
        return self.exposed_version is not None and self.version <= self.exposed_version

    @property
    def behind(self) -> bool:
        """True while the Server has named a later revision than the stored membership has.

        The present members are not known then, and a PNE that has left may still be listed (SEC-06).
        """
        return self.revision < self.wanted_revision

    @property
    def listed(self) -> bool:
        """True if the stored membership is the newest that the Server has named: who is a member is certain then."""
        return self.revision > 0 and not self.behind


@dataclass(frozen=True, slots=True)
class Member:
    """A member PNE in this PN. It may read versions above `floor`.

    `generation`, `slot`: those of the newest GKDK that it has, None if it has none of a generation that has not ended.
    """

    pne_id: str
    floor: int
    revision: int
    generation: int | None
    slot: int | None
    signing_epoch: int


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """`states`: how many members are in each state of the delivery of the newest key, NO_STATE for no part in it."""

    sg_id: str
    version: int
    end_to_end: bool
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gkek:
    """The cover of the members that have a GKDK of `generation`: packed indexes in canonical order."""

    generation: int
    membership: int
    indexes: bytes


_NEWEST_SLOT = (
    "LEFT JOIN slot s ON s.pne_id = m.pne_id AND s.retired = 0 AND s.delivered = 1 AND s.generation = "
    "(SELECT max(generation) FROM slot WHERE pne_id = m.pne_id AND retired = 0 AND delivered = 1)"
)


class Inventory:
    """The tables of groups, members and GKEKs. Every write belongs inside a transaction of the store."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._db = database

    def group(self, sg_id: str) -> ServiceGroup | None:
        """Return a Service Group, None if there is none or it is deleted."""
        group = self.group_or_deleted(sg_id)
        return None if group is None or group.deleted else group

    def group_or_deleted(self, sg_id: str) -> ServiceGroup | None:
        """Return a Service Group, None if there never was one. A deleted one still has its version, as a floor."""
        row = self._db.row("SELECT * FROM service_group WHERE sg_id = ?", sg_id)
        return None if row is None else _group(row)

    def group_with_alias(self, alias: int) -> ServiceGroup | None:
        """Return the Service Group with this SG alias, None if there is none or it is deleted."""
        row = self._db.row("SELECT * FROM service_group WHERE alias = ? AND deleted = 0", alias)
        return None if row is None else _group(row)

    def groups(self, sg_ids: Collection[str] | None = None) -> list[ServiceGroup]:
        """Return all Service Groups, or those of these, that are not deleted, ordered by SG ID."""
        sql = f"SELECT * FROM service_group WHERE deleted = 0 AND {among('sg_id', sg_ids)} ORDER BY sg_id"
        return [_group(row) for row in self._db.rows(sql, *sg_ids or ())]

    def ensure_group(self, sg_id: str) -> ServiceGroup:
        """Return the Service Group. If there is none, or it is deleted, it gets an alias never used before (SEC-08).

        Raises TooMany like `room_for`, and MalformedMessage for a name that is no SG ID (`cpns.name_rule`).
        """
        group = self.group_or_deleted(sg_id)
        if group is None:
            name_rule.checked(sg_id, "SG ID")
        if group is None or group.deleted:
            self.room_for(sg_id)
            alias = self._db.number("SELECT next_sg_alias FROM pn")
            self._db.execute("UPDATE pn SET next_sg_alias = next_sg_alias + 1")
            self._db.execute(
                "INSERT INTO service_group (sg_id, alias) VALUES (?, ?) "
                "ON CONFLICT (sg_id) DO UPDATE SET alias = excluded.alias, deleted = 0, "
                "revision = 0, wanted_revision = 0",
                sg_id,
                alias,
            )
            group = self.group_or_deleted(sg_id)
        if group is None:
            raise AssertionError("a group that was just written is missing")
        return group

    def room_for(self, sg_id: str) -> None:
        """Raise TooMany if the Service Group would need an alias and none is left."""
        if self.group(sg_id) is None and self._db.number("SELECT next_sg_alias FROM pn") > ALIAS_MAX:
            raise TooMany(f"all {ALIAS_MAX:,} SG aliases of this PN are used up: its gateway must be set up anew")

    def set_protection(self, sg_id: str, protection: int) -> None:
        """Set how messages of the group are protected (`numbers.PROTECTION_*`)."""
        self._db.execute("UPDATE service_group SET protection = ? WHERE sg_id = ?", protection, sg_id)

    def set_end_to_end(self, sg_id: str) -> None:
        """Note that the keys of the group are not for this PN GW (SEC-26). Its GKEK is deleted."""
        self._db.execute("UPDATE service_group SET end_to_end = 1 WHERE sg_id = ?", sg_id)
        self._db.execute("DELETE FROM gkek WHERE sg_id = ?", sg_id)

    def end_waiting(self, sg_id: str) -> None:
        """Note that a group needs no new key from the Server to go on after a restore (SEC-02)."""
        self._db.execute("UPDATE service_group SET waiting = 0 WHERE sg_id = ?", sg_id)

    def reach_revision(self, sg_id: str, revision: int) -> None:
        """Note that the stored membership is that of `revision`."""
        self._db.execute(
            "UPDATE service_group SET revision = max(revision, ?1), wanted_revision = max(wanted_revision, ?1) "
            "WHERE sg_id = ?2",
            revision,
            sg_id,
        )

    def want_revision(self, sg_id: str, revision: int) -> None:
        """Note that the Server has named this revision, which may be later than the stored membership."""
        sql = "UPDATE service_group SET wanted_revision = max(wanted_revision, ?) WHERE sg_id = ?"
        self._db.execute(sql, revision, sg_id)

    def is_behind(self, sg_id: str) -> bool:
        """Return `ServiceGroup.behind` of a group, False if there is none."""
        group = self.group(sg_id)
        return group is not None and group.behind

    def set_version(self, sg_id: str, version: int) -> None:
        """Set the highest version of the group, and end `waiting`."""
        self._db.execute("UPDATE service_group SET version = ?, waiting = 0 WHERE sg_id = ?", version, sg_id)

    def mark_exposed(self, sg_id: str) -> None:
        """Note that a PNE that is no member knows the present key."""
        sql = "UPDATE service_group SET exposed_version = version WHERE sg_id = ? AND version > 0"
        self._db.execute(sql, sg_id)

    def mark_deleted(self, sg_id: str) -> None:
        """Delete members and GKEK of a group. Its row stays, with version and alias."""
        self._db.execute("DELETE FROM member WHERE sg_id = ?", sg_id)
        self._db.execute("DELETE FROM gkek WHERE sg_id = ?", sg_id)
        sql = "UPDATE service_group SET deleted = 1, exposed_version = NULL WHERE sg_id = ?"
        self._db.execute(sql, sg_id)

    def mark_all_waiting(self) -> None:
        """Delete all members and GKEKs, and let every group wait for a new key, after a restore (SEC-02)."""
        self._db.execute("DELETE FROM gkek")
        self._db.execute("DELETE FROM member")
        self._db.execute("UPDATE service_group SET waiting = 1, revision = 0, wanted_revision = 0")

    def members(self, sg_id: str) -> list[Member]:
        """Return the members in this PN, ordered by PNE ID."""
        sql = (
            f"SELECT m.pne_id, m.floor, m.revision, s.generation, s.slot, p.signing_epoch FROM member m "
            f"JOIN pne p ON p.pne_id = m.pne_id {_NEWEST_SLOT} WHERE m.sg_id = ? ORDER BY m.pne_id"
        )
        return [Member(*row) for row in self._db.rows(sql, sg_id)]

    def member(self, sg_id: str, pne_id: str) -> Member | None:
        """Return one member, None if the PNE is no member."""
        sql = (
            f"SELECT m.pne_id, m.floor, m.revision, s.generation, s.slot, p.signing_epoch FROM member m "
            f"JOIN pne p ON p.pne_id = m.pne_id {_NEWEST_SLOT} WHERE m.sg_id = ? AND m.pne_id = ?"
        )
        row = self._db.row(sql, sg_id, pne_id)
        return None if row is None else Member(*row)

    def is_member(self, sg_id: str, pne_id: str) -> bool:
        """Return True if the PNE is a member now. SEC-06 requires this check at the moment of sending."""
        return self._db.row("SELECT 1 FROM member WHERE sg_id = ? AND pne_id = ?", sg_id, pne_id) is not None

    def groups_of(self, pne_id: str) -> list[str]:
        """Return the SG IDs of the groups that the PNE is a member of, ascending."""
        return [row[0] for row in self._db.rows("SELECT sg_id FROM member WHERE pne_id = ? ORDER BY sg_id", pne_id)]

    def memberships(self, sg_ids: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return (SG ID, PNE ID) of each membership in this PN, or in these groups, ordered by both."""
        sql = f"SELECT sg_id, pne_id FROM member WHERE {among('sg_id', sg_ids)} ORDER BY sg_id, pne_id"
        return [(row[0], row[1]) for row in self._db.rows(sql, *sg_ids or ())]

    def counts(self, sg_ids: Collection[str] | None = None) -> dict[str, GroupCounts]:
        """Return how many members are in which state, by SG ID, ascending, of all groups, or of these.

        Deleted groups are not in it.
        """
        sums = ", ".join(f"sum(r.state = '{state}')" for state in _STATES)  # faster than a group for each state
        sql = (
            f"SELECT g.sg_id, g.version, g.end_to_end, count(m.pne_id), {sums} FROM service_group g "
            "LEFT JOIN member m ON m.sg_id = g.sg_id "
            "LEFT JOIN recipient r ON r.sg_id = m.sg_id AND r.version = g.version AND r.pne_id = m.pne_id "
            f"WHERE g.deleted = 0 AND {among('g.sg_id', sg_ids)} GROUP BY g.sg_id ORDER BY g.sg_id"
        )
        found = {}
        for sg_id, version, end_to_end, members, *sums_of in self._db.rows(sql, *sg_ids or ()):
            states = {state: count for state, count in zip(_STATES, sums_of, strict=True) if count}
            if members > sum(states.values()):
                states[NO_STATE] = members - sum(states.values())
            found[sg_id] = GroupCounts(sg_id, version, bool(end_to_end), states)
        return found

    def count_members(self, sg_id: str) -> int:
        """Return how many members the group has in this PN."""
        return self._db.number("SELECT count(*) FROM member WHERE sg_id = ?", sg_id)

    def add_member(self, sg_id: str, pne_id: str, floor: int, revision: int) -> None:
        """Add a member that may read versions above `floor`. Does nothing if the PNE is a member."""
        self._db.execute("INSERT OR IGNORE INTO member VALUES (?, ?, ?, ?)", sg_id, pne_id, floor, revision)

    def lower_floor(self, sg_id: str, pne_id: str, floor: int) -> None:
        """Lower the floor of a member to `floor`, because the Server allows it earlier versions."""
        sql = "UPDATE member SET floor = min(floor, ?) WHERE sg_id = ? AND pne_id = ?"
        self._db.execute(sql, floor, sg_id, pne_id)

    def remove_member(self, sg_id: str, pne_id: str) -> bool:
        """Remove a member. Returns False if the PNE was no member."""
        sql = "DELETE FROM member WHERE sg_id = ? AND pne_id = ?"
        return self._db.execute(sql, sg_id, pne_id).rowcount == 1

    def put_gkek(self, sg_id: str, covers: Iterable[tuple[int, bytes]]) -> None:
        """Replace the GKEK of a group and count the change.

        `covers`: (generation, packed indexes) for each generation of the members' GKDKs.
        """
        self._db.execute("UPDATE service_group SET membership = membership + 1 WHERE sg_id = ?", sg_id)
        self._db.execute("DELETE FROM gkek WHERE sg_id = ?", sg_id)
        for generation, indexes in covers:
            self._db.execute(
                "INSERT INTO gkek SELECT sg_id, ?, membership, ? FROM service_group WHERE sg_id = ?",
                generation,
                indexes,
                sg_id,
            )

    def gkek(self, sg_id: str) -> list[Gkek]:
        """Return the GKEK of the group, one cover for each generation."""
        sql = "SELECT generation, membership, indexes FROM gkek WHERE sg_id = ? ORDER BY generation"
        return [Gkek(*row) for row in self._db.rows(sql, sg_id)]


def _group(row: sqlite3.Row) -> ServiceGroup:
    values = dict(row)
    for flag in ("waiting", "deleted", "end_to_end"):
        values[flag] = bool(values[flag])
    return ServiceGroup(**values)
