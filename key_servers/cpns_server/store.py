"""Rows of the Server's database as frozen values. The rules are in other modules; this one stores and reads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from key_servers.cpns_server import tuning
from key_servers.cpns_server.database import Part, ServerDatabase
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.operators.access import OperatorTokens
from key_servers.cpns_server.operators.audit_log import AuditLog
from key_servers.cpns_server.values import (
    GroupState,
    GroupTrust,
    JoinPolicy,
    MemberState,
    PnePosition,
    StoredEntityUserKey,
    StoredGateway,
    StoredGroup,
    StoredKey,
    StoredMember,
)
from key_servers.cpns_server.write_lots import WriteLots

_GATEWAY_COLUMNS = "gateway_id, pn_id, form, blocked, is_open"
_GROUP_COLUMNS = (
    "sg_id, owner, state, policy, protection, rekey_on_join, period_s, version, pending, key_made_at, trust,"
    " batching_ms"
)
DATABASE_ID_LEN = 16
_MEMBER_COLUMNS = "pne_id, pn_id, state, since, confirmed, report, link, tries, confirmed_at"


T = TypeVar("T")

PneKey = tuple[str, str, str]
"""(PN ID, SG ID, PNE ID) of the position of a PNE."""


class ServerStore:
    """Everything the Server remembers. Writes need `with store.transaction():` around them.

    Except what PN GWs report about themselves: `lots` writes that in lots, and needs a running event loop.
    """

    def __init__(self, database: ServerDatabase) -> None:
        """Keep the open database, which `close` closes."""
        self._database = database
        self.transaction = database.transaction
        self.snapshot = database.snapshot
        self.after_commit = database.after_commit
        self.lots = WriteLots(self._database)
        self.audit = AuditLog(self._database)
        self.tokens = OperatorTokens(self._database)
        self._followers: list[dict[Part, None]] = []
        self._followers_elsewhere: list[dict[Part, None]] = []

    @property
    def kind(self) -> str:
        """The kind of the database: SQLite or PostgreSQL."""
        return self._database.kind

    @property
    def commits(self) -> int:
        """The number of synced transactions since the start."""
        return self._database.commits

    @property
    def trouble(self) -> str:
        """The fault of the medium as text, "" if there is none (`ServerDatabase.trouble`)."""
        return self._database.trouble

    def probe(self) -> None:
        """If there is a fault, try whether it has ended."""
        self._database.probe()

    def attempt(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run as one although other processes use the store (`ServerDatabase.attempt`)."""
        return self._database.attempt(work)

    @property
    def is_older(self) -> bool:
        """True if the database may be an older copy of what it was (`ServerDatabase.is_older`)."""
        return self._database.is_older

    @property
    def may_go_back(self) -> bool:
        """True if the database can go back without a person who tells (`ServerDatabase.may_go_back`)."""
        return self._database.may_go_back

    def accept(self, work: Callable[[int], object]) -> None:
        """Go on with an older copy after `work` (`ServerDatabase.accept`)."""
        self._database.accept(work)

    def identity(self, first: Callable[[], bytes]) -> bytes | None:
        """Return the octets of the Server's own key (`ServerDatabase.identity`)."""
        return self._database.identity(first)

    def image(self) -> bytes:
        """Return the octets of a file like this one for a backup: everything but Group Keys and Entity User Keys.

        Tokens of operators stay out, too: one that is revoked later would come back with it. It tells which PNEs had
        keys from sessions, by random ones in their place (`learnt_entity_user_keys`).
        """
        return self._database.image(
            "DELETE FROM group_keys",
            "DELETE FROM operator_token",
            "DELETE FROM entity_user_key WHERE provisioned = 1",
            "UPDATE entity_user_key SET current = randomblob(16), previous = NULL",
            "UPDATE server SET database_id = NULL",  # what is restored from it is another database
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _rows(self, sql: str, *values: str | int | bytes | None) -> list[Any]:
        return self._database.rows(sql, *values)

    def _pages(self, sql: str, values: list[str], order: tuple[str, slice] | None) -> Iterator[Any]:
        """Yield the rows of a statement, some at a time, as one answer of a database must not take long.

        `order`: two columns that tell the rows apart, and where they are in a row; None for few rows.
        """
        if order is None:
            yield from self._rows(sql, *values)
            return
        columns, place = order
        with self.snapshot():
            rows = self._rows(f"{sql} ORDER BY {columns} LIMIT {tuning.PAGE}", *values)
            yield from rows
            while len(rows) == tuning.PAGE:
                after = f"{sql} AND ({columns}) > (?, ?) ORDER BY {columns} LIMIT {tuning.PAGE}"
                rows = self._rows(after, *values, *rows[-1][place])
                yield from rows

    def _write(self, sql: str, *values: str | int | bytes | None) -> None:
        self._database.write(sql, *values)

    # the Server

    def base_epoch(self) -> int:
        """Return the epoch in which new Service Groups begin."""
        ((epoch,),) = self._rows("SELECT base_epoch FROM server")
        return int(epoch)

    def set_base_epoch(self, epoch: int) -> None:
        """Begin new Service Groups in `epoch` from now on."""
        self._write("UPDATE server SET base_epoch = ?", epoch)

    def database_id(self, random_octets: Callable[[int], bytes]) -> bytes:
        """Return the random number of this database, 16 octets, drawn when it is first needed. No backup has it."""

        def drawn() -> bytes:
            with self.transaction():
                self._write(
                    "UPDATE server SET database_id = ? WHERE database_id IS NULL", random_octets(DATABASE_ID_LEN)
                )
                ((number,),) = self._rows("SELECT database_id FROM server")
            return bytes(number)

        return self.attempt(drawn)

    # PN GWs and PNEs

    def gateways(self) -> tuple[StoredGateway, ...]:
        """Return all PN GWs ever registered."""
        rows = self._rows(f"SELECT {_GATEWAY_COLUMNS} FROM gateways ORDER BY gateway_id")
        return tuple(_gateway(row) for row in rows)

    def gateway(self, gateway_id: str) -> StoredGateway | None:
        """Return the PN GW of that ID."""
        rows = self._rows(f"SELECT {_GATEWAY_COLUMNS} FROM gateways WHERE gateway_id = ?", gateway_id)
        return _gateway(rows[0]) if rows else None

    def gateway_of(self, pn_id: str) -> StoredGateway | None:
        """Return the PN GW that serves the PN now."""
        rows = self._rows(f"SELECT {_GATEWAY_COLUMNS} FROM gateways WHERE pn_id = ? AND blocked = 0", pn_id)
        return _gateway(rows[0]) if rows else None

    def gateways_with_groups(self) -> set[str]:
        """Return the IDs of the PN GWs in use whose PN has or had members in a Service Group."""
        rows = self._rows(
            "SELECT gateway_id FROM gateways g WHERE blocked = 0"
            " AND EXISTS (SELECT 1 FROM inventories i WHERE i.pn_id = g.pn_id)"
        )
        return {gateway_id for (gateway_id,) in rows}

    def put_gateway(self, gateway: StoredGateway) -> None:
        """Insert or change a PN GW."""
        self._write(
            "INSERT INTO gateways VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway_id) DO UPDATE"
            " SET pn_id = excluded.pn_id, form = excluded.form, blocked = excluded.blocked, is_open = excluded.is_open",
            gateway.gateway_id,
            gateway.pn_id,
            gateway.form,
            gateway.blocked,
            gateway.is_open,
        )
        self.touch("", gateway.pn_id)

    def pn_of(self, pne_id: str) -> str | None:
        """Return the PN a PNE is bound to."""
        rows = self._rows("SELECT pn_id FROM pnes WHERE pne_id = ?", pne_id)
        return rows[0][0] if rows else None

    def bind_pne(self, pne_id: str, pn_id: str) -> None:
        """Bind a PNE to a PN, in place of the one it was bound to."""
        self._write(
            "INSERT INTO pnes VALUES (?, ?) ON CONFLICT (pne_id) DO UPDATE SET pn_id = excluded.pn_id", pne_id, pn_id
        )

    def pnes(self) -> dict[str, str]:
        """Return the PN ID of each PNE that is bound to one, by PNE ID."""
        return dict(self._rows("SELECT pne_id, pn_id FROM pnes ORDER BY pne_id"))

    def count_pnes(self, pn_id: str) -> int:
        """Return how many PNEs are bound to a PN."""
        ((count,),) = self._rows("SELECT count(*) FROM pnes WHERE pn_id = ?", pn_id)
        return int(count)

    # Service Groups

    def groups(self) -> tuple[StoredGroup, ...]:
        """Return all Service Groups, deleted ones too."""
        return tuple(_group(row) for row in self._rows(f"SELECT {_GROUP_COLUMNS} FROM groups ORDER BY sg_id"))

    def group(self, sg_id: str) -> StoredGroup | None:
        """Return one Service Group, even a deleted one, or None."""
        rows = self._rows(f"SELECT {_GROUP_COLUMNS} FROM groups WHERE sg_id = ?", sg_id)
        return _group(rows[0]) if rows else None

    def held_groups(self) -> tuple[str, ...]:
        """Return the IDs of the Service Groups whose members a person must confirm."""
        return tuple(sg for (sg,) in self._rows("SELECT sg_id FROM groups WHERE state = 'held' ORDER BY sg_id"))

    def put_group(self, group: StoredGroup) -> None:
        """Insert or change a Service Group. Raises StoreFailed if its version would go back, or its trust change."""
        before = self.group(group.sg_id)
        if before is None or _tells(before) != _tells(group):
            self.touch(group.sg_id, "")
        self._write(
            f"INSERT INTO groups ({_GROUP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (sg_id) DO UPDATE SET owner = excluded.owner, state = excluded.state,"
            " policy = excluded.policy, protection = excluded.protection, rekey_on_join = excluded.rekey_on_join,"
            " period_s = excluded.period_s,"
            " version = excluded.version, pending = excluded.pending, key_made_at = excluded.key_made_at,"
            " trust = excluded.trust, batching_ms = excluded.batching_ms",
            group.sg_id,
            group.owner,
            group.state.value,
            group.policy.value,
            group.protection,
            group.rekey_on_join,
            group.period_s,
            group.version,
            group.pending,
            group.key_made_at,
            group.trust.value,
            None if group.batching_s is None else round(group.batching_s * 1000),
        )

    def count_groups_of(self, owner: str) -> int:
        """Return how many living Service Groups a PNE owns."""
        ((count,),) = self._rows("SELECT count(*) FROM groups WHERE owner = ? AND state <> 'deleted'", owner)
        return int(count)

    def count_names_of(self, pn_id: str) -> int:
        """Return how many Service Groups PNEs of a PN ever created, deleted ones too."""
        ((count,),) = self._rows(
            "SELECT count(*) FROM groups JOIN pnes ON pnes.pne_id = groups.owner WHERE pnes.pn_id = ?", pn_id
        )
        return int(count)

    def open_to(self, sg_id: str) -> tuple[str, ...]:
        """Return the PNs whose PNEs may join an open group."""
        rows = self._rows("SELECT pn_id FROM open_to WHERE sg_id = ? ORDER BY pn_id", sg_id)
        return tuple(pn for (pn,) in rows)

    def set_open_to(self, sg_id: str, pn_ids: Iterable[str]) -> None:
        """Replace the list of PNs whose PNEs may join an open group."""
        self._write("DELETE FROM open_to WHERE sg_id = ?", sg_id)
        for pn_id in sorted(set(pn_ids)):
            self._write("INSERT INTO open_to VALUES (?, ?)", sg_id, pn_id)

    # members

    def members(self, sg_id: str) -> tuple[StoredMember, ...]:
        """Return all PNEs that have or had a relation to a Service Group."""
        rows = self._rows(
            f"SELECT {_MEMBER_COLUMNS} FROM members WHERE sg_id = ? ORDER BY pne_id",
            sg_id,
        )
        return tuple(_member(row) for row in rows)

    def member(self, sg_id: str, pne_id: str) -> StoredMember | None:
        """Return one PNE's relation to a Service Group, or None if it never had one."""
        rows = self._rows(
            f"SELECT {_MEMBER_COLUMNS} FROM members WHERE sg_id = ? AND pne_id = ?",
            sg_id,
            pne_id,
        )
        return _member(rows[0]) if rows else None

    def members_in(self, sg_id: str, pn_id: str) -> tuple[str, ...]:
        """Return the members of a Service Group in one PN, to which its PN GW delivers."""
        rows = self._rows(
            "SELECT pne_id FROM members WHERE sg_id = ? AND pn_id = ? AND state = 'member' ORDER BY pne_id",
            sg_id,
            pn_id,
        )
        return tuple(pne for (pne,) in rows)

    def count_end_to_end_members(self, pn_id: str) -> int:
        """Return how many memberships in end-to-end groups the PNEs of a PN have, all groups together."""
        ((count,),) = self._rows(
            "SELECT count(*) FROM groups g CROSS JOIN members m USING (sg_id)"
            " WHERE g.trust = 'end-to-end' AND m.pn_id = ? AND m.state = 'member'",
            pn_id,
        )
        return int(count)

    def groups_joined_by(self, pne_id: str) -> tuple[str, ...]:
        """Return the Service Groups a PNE is a member of."""
        rows = self._rows("SELECT sg_id FROM members WHERE pne_id = ? AND state = 'member' ORDER BY sg_id", pne_id)
        return tuple(sg for (sg,) in rows)

    def set_member(self, sg_id: str, pne_id: str, state: MemberState, since: int) -> None:
        """Change a PNE's relation to a Service Group; its last report and its position are forgotten."""
        pn_id = self.pn_of(pne_id) or ""
        if pn_id:
            self.touch(sg_id, pn_id)
        self.lots.drop_pne_position((sg_id, pne_id))
        self._write("DELETE FROM pne_positions WHERE sg_id = ? AND pne_id = ?", sg_id, pne_id)
        self._write(
            "INSERT INTO members (sg_id, pne_id, pn_id, state, since, confirmed, report) VALUES (?, ?, ?, ?, ?, 0, '')"
            " ON CONFLICT (sg_id, pne_id) DO UPDATE SET pn_id = excluded.pn_id, state = excluded.state,"
            " since = excluded.since, confirmed = 0, report = '', link = '', tries = 0, confirmed_at = 0",
            sg_id,
            pne_id,
            pn_id,
            state.value,
            since,
        )

    def forget_members(self, sg_id: str) -> None:
        """Forget all relations of a deleted Service Group."""
        self.forget_pne_positions(sg_id)
        self._write("DELETE FROM members WHERE sg_id = ?", sg_id)

    # Group Keys

    def add_key(self, key: StoredKey) -> None:
        """Keep a new Group Key and erase all but the newest `tuning.KEYS_KEPT` (SEC-29)."""
        self._write(
            "INSERT INTO group_keys VALUES (?, ?, ?, ?, ?)", key.sg_id, key.version, key.key, key.activation, key.reason
        )
        if self._rows("SELECT 1 FROM group_keys WHERE sg_id = ? LIMIT 1 OFFSET ?", key.sg_id, tuning.KEYS_KEPT):
            self._write(
                "DELETE FROM group_keys WHERE sg_id = ? AND version NOT IN"
                " (SELECT version FROM group_keys WHERE sg_id = ? ORDER BY version DESC LIMIT ?)",
                key.sg_id,
                key.sg_id,
                tuning.KEYS_KEPT,
            )
            self._database.erase_after_commit()

    def newest_key(self, sg_id: str) -> StoredKey | None:
        """Return the Group Key of the highest version."""
        rows = self._rows(
            "SELECT sg_id, version, key, activation, reason FROM group_keys WHERE sg_id = ?"
            " ORDER BY version DESC LIMIT 1",
            sg_id,
        )
        return StoredKey(*rows[0]) if rows else None

    def erase_keys(self, sg_id: str) -> None:
        """Erase all Group Keys of a Service Group (CPNS-GKM-59)."""
        self._write("DELETE FROM group_keys WHERE sg_id = ?", sg_id)
        self._database.erase_after_commit()

    # Entity User Keys, and what PNEs proved by them

    def entity_user_key(self, pne_id: str) -> StoredEntityUserKey | None:
        """Return the Entity User Keys of a PNE, or None if it has none."""
        rows = self._rows("SELECT current, previous, provisioned FROM entity_user_key WHERE pne_id = ?", pne_id)
        return StoredEntityUserKey(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def put_entity_user_key(self, pne_id: str, keys: StoredEntityUserKey) -> None:
        """Store the Entity User Keys of a PNE; what they replace is erased (SEC-29)."""
        self._write(
            "INSERT INTO entity_user_key VALUES (?, ?, ?, ?) ON CONFLICT (pne_id) DO UPDATE SET"
            " current = excluded.current, previous = excluded.previous, provisioned = excluded.provisioned",
            pne_id,
            keys.current,
            keys.previous,
            keys.provisioned,
        )
        self._database.erase_after_commit()

    def forget_entity_user_key(self, pne_id: str) -> None:
        """Erase the Entity User Keys of a PNE."""
        self._write("DELETE FROM entity_user_key WHERE pne_id = ?", pne_id)
        self._database.erase_after_commit()

    def learnt_entity_user_keys(self) -> tuple[str, ...]:
        """Return the PNE IDs of the Entity User Keys that sessions made; those of others were set by a person."""
        return tuple(pne for (pne,) in self._rows("SELECT pne_id FROM entity_user_key WHERE provisioned = 0"))

    def pne_positions(
        self, sg_id: str = "", pn_id: str = "", pne_id: str = ""
    ) -> dict[PneKey, tuple[int, PnePosition]]:
        """Return (PN ID, SG ID, PNE ID) -> (the version that a member should have, how far it is).

        Only end-to-end groups have these; "" stands for all. As in `positions`, no key is wanted that is about to be
        replaced (SEC-06), nor in a held group (SEC-03): there each member should have what it has.
        """
        filters = {"sg_id": sg_id, "pn_id": pn_id, "pne_id": pne_id}
        asked = {column: value for column, value in filters.items() if value}
        where = "".join(f" AND m.{column} = ?" for column in asked)
        rows = self._pages(
            "SELECT m.pn_id, m.sg_id, m.pne_id, g.state, g.pending, g.version,"
            " coalesce(p.version, 0), coalesce(p.tries, 0), coalesce(p.confirmed_at, 0), coalesce(p.last_return, '')"
            " FROM groups g CROSS JOIN members m USING (sg_id) LEFT JOIN pne_positions p USING (sg_id, pne_id)"
            f" WHERE g.trust = 'end-to-end' AND m.state = 'member'{where}",
            list(asked.values()),
            None if pn_id or pne_id else ("m.sg_id, m.pne_id", slice(1, 3)),
        )
        found = {}
        for *key, state, pending, version, has, tries, confirmed_at, last_return in rows:
            named: PneKey = (key[0], key[1], key[2])
            position = self.lots.pne_position(named[1:]) or PnePosition(has, tries, confirmed_at, last_return)
            is_due = state == GroupState.ACTIVE and pending is None
            found[named] = (version if is_due else position.version, position)
        return found

    def forget_pne_positions(self, sg_id: str) -> None:
        """Forget how far the members of a group are: its keys are delivered anew."""
        self.lots.drop_pne_positions(sg_id)
        self._write("DELETE FROM pne_positions WHERE sg_id = ?", sg_id)
        self.touch(sg_id, "")

    # SG Inventories of PNs

    def revision(self, sg_id: str, pn_id: str) -> int:
        """Return the revision of one PN's part of an SG Inventory; 0 if it has none."""
        rows = self._rows("SELECT revision FROM inventories WHERE sg_id = ? AND pn_id = ?", sg_id, pn_id)
        return int(rows[0][0]) if rows else 0

    def count_inventories(self, pn_id: str) -> int:
        """Return how many Service Groups have or had members in a PN."""
        ((count,),) = self._rows("SELECT count(*) FROM inventories WHERE pn_id = ?", pn_id)
        return int(count)

    def set_revision(self, sg_id: str, pn_id: str, revision: int) -> None:
        """Raise that revision. Raises StoreFailed if it would go back."""
        self._write(
            "INSERT INTO inventories VALUES (?, ?, ?, 0, 0, 0) ON CONFLICT (sg_id, pn_id) DO UPDATE"
            " SET revision = excluded.revision",
            sg_id,
            pn_id,
            revision,
        )
        self.touch(sg_id, pn_id)

    def set_accepted(self, sg_id: str, pn_id: str, position: Position) -> None:
        """Store the position of a PN GW; positions that wait in `lots` are dropped."""
        self.lots.drop_position((pn_id, sg_id))
        self.touch(sg_id, pn_id)
        self._write(
            "UPDATE inventories SET accepted_revision = ?, accepted_version = ?, accepted_deleted = ?"
            " WHERE sg_id = ? AND pn_id = ?",
            position.revision,
            position.version,
            position.deleted,
            sg_id,
            pn_id,
        )

    def inventory_pns(self, sg_id: str) -> tuple[str, ...]:
        """Return the PNs that have or had members."""
        rows = self._rows("SELECT pn_id FROM inventories WHERE sg_id = ? ORDER BY pn_id", sg_id)
        return tuple(pn for (pn,) in rows)

    def positions(self, sg_id: str = "", pn_id: str = "") -> dict[tuple[str, str], tuple[Position, Position]]:
        """Return (PN ID, SG ID) -> (where its PN GW should be, where it said it is), of one group or PN or of all.

        A PN without members gets no key, and no PN gets a key that is about to be replaced: a leaver may know it, or a
        newcomer must not (SEC-06). No PN gets the key of an end-to-end group (SEC-26). A held group gets nothing at all
        (SEC-03).
        """
        filters = {"sg_id": sg_id, "pn_id": pn_id}
        asked = {column: value for column, value in filters.items() if value}
        where = "".join(f" AND i.{column} = ?" for column in asked)
        rows = self._pages(
            "SELECT i.pn_id, i.sg_id, i.revision, g.version, g.state, g.pending, g.trust,"
            " i.accepted_revision, i.accepted_version, i.accepted_deleted,"
            " EXISTS (SELECT 1 FROM members m WHERE m.sg_id = i.sg_id AND m.pn_id = i.pn_id AND m.state = 'member')"
            f" FROM inventories i JOIN groups g USING (sg_id) WHERE TRUE{where}",
            list(asked.values()),
            None if pn_id else ("i.sg_id, i.pn_id", slice(1, None, -1)),
        )
        return {(row[0], row[1]): _positions(row, self.lots.position((row[0], row[1]))) for row in rows}

    def touch(self, sg_id: str, pn_id: str) -> None:
        """Note that positions of a group and PN may have changed, for all that follow them; "" stands for all."""
        for touched in self._followers:
            touched[sg_id, pn_id] = None
        self._database.changed((sg_id, pn_id))

    def look_at_all(self) -> None:
        """Let all that follow positions in this process look at each of them again."""
        for touched in self._followers:
            touched["", ""] = None

    def require_shard(self, shard: int) -> None:
        """Raise ShardLost, inside a transaction, unless this process holds the shard (`ServerDatabase`)."""
        self._database.require_shard(shard)

    def follow(self, *, elsewhere: bool = False) -> dict[Part, None]:
        """Return a new ordered set that grows by what may have changed in positions; everything may have so far.

        With `elsewhere` it grows by what other processes have changed only, and is empty so far. The caller removes
        what it has looked at.
        """
        touched: dict[Part, None] = {} if elsewhere else {("", ""): None}
        (self._followers_elsewhere if elsewhere else self._followers).append(touched)
        return touched

    async def listen(self, changed: Callable[[], None]) -> None:
        """Follow what other processes change until it is cancelled. `changed` is called after each change.

        Without other processes it returns at once.
        """

        def take(parts: Sequence[Part]) -> None:
            for touched in (*self._followers, *self._followers_elsewhere):
                touched.update(dict.fromkeys(parts or [("", "")]))
            changed()

        await self._database.listen(take)


def _tells(group: StoredGroup) -> tuple[object, ...]:
    """Return the part of a group that decides about positions."""
    return group.state, group.version, group.pending is None


def _positions(row: Any, said: Position | None) -> tuple[Position, Position]:
    revision, version, state, pending, trust, accepted_revision, accepted_version, accepted_deleted, peopled = row[2:]
    accepted = said or Position(accepted_revision, accepted_version, bool(accepted_deleted))
    if state == GroupState.HELD:
        return accepted, accepted
    if state == GroupState.DELETED:
        return Position(revision, version, True), accepted
    has_key = peopled and pending is None and trust == GroupTrust.GATEWAY
    return Position(revision, version if has_key else 0, False), accepted


def _gateway(row: Any) -> StoredGateway:
    gateway_id, pn_id, form, blocked, is_open = row
    return StoredGateway(gateway_id, pn_id, form, bool(blocked), bool(is_open))


def _group(row: Any) -> StoredGroup:
    sg_id, owner, state, policy, protection, rekey_on_join, period_s, version, pending, key_made_at, trust, batching = (
        row
    )
    return StoredGroup(
        sg_id,
        owner,
        GroupState(state),
        JoinPolicy(policy),
        protection,
        bool(rekey_on_join),
        period_s,
        version,
        pending,
        key_made_at,
        GroupTrust(trust),
        None if batching is None else batching / 1000,
    )


def _member(row: Any) -> StoredMember:
    pne_id, pn_id, state, *told = row
    return StoredMember(pne_id, pn_id, MemberState(state), *told)
