"""The GMS's rows as values. The rules are in other modules. Every method needs the transaction that it belongs to."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from key_servers.gms.delivery import OPEN, NoticeDelivery, State
from key_servers.gms.values import Affiliation, Key, KeyState, ValGroup, ValMember, ValUser
from key_servers.https.tokens import StoredToken
from key_servers.sql import Transaction

_DELIVERY = "notice_id, key_id, user_uri, purpose, groups, state, attempts, due, code, text"
_MEMBER = "group_uri, user_uri, affiliation, affiliated, subscribed"
_KEY = "key_id, gmk, activation, expiry, text, state"


# users


async def user(sql: Transaction, uri: str) -> ValUser | None:
    """Return one user."""
    rows = await sql.rows("SELECT permitted, authorised_until FROM gms_users WHERE user_uri = $1", uri)
    return ValUser(uri, bool(rows[0][0]), rows[0][1]) if rows else None


async def put_user(sql: Transaction, value: ValUser) -> None:
    """Insert or change a user."""
    await sql.rows(
        "INSERT INTO gms_users VALUES ($1, $2, $3) ON CONFLICT (user_uri) DO UPDATE"
        " SET permitted = excluded.permitted, authorised_until = excluded.authorised_until",
        value.uri,
        int(value.permitted),
        value.authorised_until,
    )


async def put_token(sql: Transaction, token: StoredToken) -> None:
    """Store a user's token, in place of the former one."""
    await sql.rows(
        "INSERT INTO gms_tokens VALUES ($1, $2, $3, $4) ON CONFLICT (user_uri) DO UPDATE SET token_id ="
        " excluded.token_id, secret_hash = excluded.secret_hash, valid_to = excluded.valid_to",
        token.token_id,
        token.user_uri,
        token.secret_hash,
        token.valid_to,
    )


async def token(sql: Transaction, token_id: str) -> StoredToken | None:
    """Return the token with that id."""
    rows = await sql.rows(
        "SELECT token_id, user_uri, secret_hash, valid_to FROM gms_tokens WHERE token_id = $1", token_id
    )
    return StoredToken(*rows[0]) if rows else None


# groups and members


async def groups(sql: Transaction) -> list[ValGroup]:
    """Return all groups, by URI."""
    rows = await sql.rows("SELECT group_uri, name, rekey_on_removal FROM gms_groups ORDER BY group_uri")
    return [ValGroup(uri, name, bool(rekey)) for uri, name, rekey in rows]


async def group(sql: Transaction, uri: str) -> ValGroup | None:
    """Return one group."""
    rows = await sql.rows("SELECT name, rekey_on_removal FROM gms_groups WHERE group_uri = $1", uri)
    return ValGroup(uri, rows[0][0], bool(rows[0][1])) if rows else None


async def add_group(sql: Transaction, value: ValGroup) -> None:
    """Insert a group."""
    await sql.rows("INSERT INTO gms_groups VALUES ($1, $2, $3)", value.uri, value.name, int(value.rekey_on_removal))


async def members(sql: Transaction, group_uri: str) -> list[ValMember]:
    """Return the members on the list of a group."""
    rows = await sql.rows(f"SELECT {_MEMBER} FROM gms_members WHERE group_uri = $1 ORDER BY user_uri", group_uri)
    return [_member(row) for row in rows]


async def memberships(sql: Transaction, user_uri: str) -> list[ValMember]:
    """Return the entries that name a user, of all lists."""
    rows = await sql.rows(f"SELECT {_MEMBER} FROM gms_members WHERE user_uri = $1 ORDER BY group_uri", user_uri)
    return [_member(row) for row in rows]


async def member(sql: Transaction, group_uri: str, user_uri: str) -> ValMember | None:
    """Return one user's entry on one list."""
    rows = await sql.rows(
        f"SELECT {_MEMBER} FROM gms_members WHERE group_uri = $1 AND user_uri = $2", group_uri, user_uri
    )
    return _member(rows[0]) if rows else None


async def put_member(sql: Transaction, value: ValMember) -> None:
    """Insert or change an entry of a list."""
    await sql.rows(
        "INSERT INTO gms_members VALUES ($1, $2, $3, $4, $5) ON CONFLICT (group_uri, user_uri) DO UPDATE SET"
        " affiliation = excluded.affiliation, affiliated = excluded.affiliated, subscribed = excluded.subscribed",
        value.group,
        value.user,
        value.affiliation.value,
        int(value.affiliated),
        int(value.subscribed),
    )


async def remove_member(sql: Transaction, group_uri: str, user_uri: str) -> None:
    """Take a user from a list."""
    await sql.rows("DELETE FROM gms_members WHERE group_uri = $1 AND user_uri = $2", group_uri, user_uri)


# keys


async def key_id_used(sql: Transaction, key_id: str) -> bool:
    """Return True if a key ever had this GMK-ID."""
    return bool(await sql.rows("SELECT 1 FROM gms_keys WHERE key_id = $1", key_id))


async def add_key(sql: Transaction, key: Key, made_at: int) -> None:
    """Insert a key with its groups."""
    await sql.rows(
        "INSERT INTO gms_keys VALUES ($1, $2, $3, $4, $5, $6, $7)",
        key.key_id,
        key.gmk.hex() if key.gmk else None,
        key.activation,
        key.expiry,
        key.text,
        key.state.value,
        made_at,
    )
    for uri in key.groups:
        await sql.rows("INSERT INTO gms_key_groups VALUES ($1, $2)", key.key_id, uri)


async def key(sql: Transaction, key_id: str) -> Key | None:
    """Return one key."""
    found = await _keys(sql, "key_id = $1", key_id)
    return found[0] if found else None


async def keys_of(sql: Transaction, group_uri: str) -> list[Key]:
    """Return the keys that serve a group, whatever their state, the oldest first."""
    return await _keys(sql, "key_id IN (SELECT key_id FROM gms_key_groups WHERE group_uri = $1)", group_uri)


async def set_key_state(sql: Transaction, key_id: str, state: KeyState) -> None:
    """Change the state of a key."""
    await sql.rows("UPDATE gms_keys SET state = $2 WHERE key_id = $1", key_id, state.value)


async def take_group_from_key(sql: Transaction, key_id: str, group_uri: str) -> None:
    """Note that the key serves this group no more."""
    await sql.rows("DELETE FROM gms_key_groups WHERE key_id = $1 AND group_uri = $2", key_id, group_uri)


async def erase_key(sql: Transaction, key_id: str) -> None:
    """Erase the key itself; its GMK-ID stays used."""
    await sql.rows("UPDATE gms_keys SET gmk = NULL WHERE key_id = $1", key_id)


# deliveries


async def add_delivery(sql: Transaction, value: NoticeDelivery) -> None:
    """Insert a delivery, after all others that the user has to get before."""
    rows = await sql.rows("SELECT coalesce(max(sequence), 0) FROM gms_deliveries WHERE user_uri = $1", value.user)
    await sql.rows(
        "INSERT INTO gms_deliveries VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        value.notice_id,
        rows[0][0] + 1,
        value.key_id,
        value.user,
        value.purpose,
        json.dumps(value.groups),
        value.state.value,
        value.attempts,
        value.due,
        value.code,
        value.text,
    )


async def change_delivery(sql: Transaction, value: NoticeDelivery) -> None:
    """Store a delivery that a step has changed."""
    await sql.rows(
        "UPDATE gms_deliveries SET state = $2, attempts = $3, due = $4, code = $5, text = $6 WHERE notice_id = $1",
        value.notice_id,
        value.state.value,
        value.attempts,
        value.due,
        value.code,
        value.text,
    )


async def delivery(sql: Transaction, notice_id: str) -> NoticeDelivery | None:
    """Return one delivery."""
    rows = await sql.rows(f"SELECT {_DELIVERY} FROM gms_deliveries WHERE notice_id = $1", notice_id)
    return _delivery(rows[0]) if rows else None


async def open_deliveries(sql: Transaction, user_uri: str) -> list[NoticeDelivery]:
    """Return the deliveries to a user that are to be sent, in order."""
    rows = await sql.rows(
        f"SELECT {_DELIVERY} FROM gms_deliveries WHERE user_uri = $1 AND state IN ($2, $3) ORDER BY sequence",
        user_uri,
        *(state.value for state in OPEN),
    )
    return [_delivery(row) for row in rows]


async def deliveries_of(sql: Transaction, key_id: str) -> list[NoticeDelivery]:
    """Return every delivery of a key, by user and in order."""
    rows = await sql.rows(
        f"SELECT {_DELIVERY} FROM gms_deliveries WHERE key_id = $1 ORDER BY user_uri, sequence", key_id
    )
    return [_delivery(row) for row in rows]


async def user_deliveries(sql: Transaction, key_id: str, user_uri: str) -> list[NoticeDelivery]:
    """Return every delivery of a key to a user, in order."""
    rows = await sql.rows(
        f"SELECT {_DELIVERY} FROM gms_deliveries WHERE key_id = $1 AND user_uri = $2 ORDER BY sequence",
        key_id,
        user_uri,
    )
    return [_delivery(row) for row in rows]


def _member(row: Sequence[Any]) -> ValMember:
    return ValMember(row[0], row[1], Affiliation(row[2]), bool(row[3]), bool(row[4]))


def _delivery(row: Sequence[Any]) -> NoticeDelivery:
    return NoticeDelivery(row[0], row[1], row[2], row[3], tuple(json.loads(row[4])), State(row[5]), *row[6:])


async def _keys(sql: Transaction, condition: str, value: str) -> list[Key]:
    rows = await sql.rows(f"SELECT {_KEY} FROM gms_keys WHERE {condition} ORDER BY made_at, key_id", value)
    return [_key(row, await _groups_of(sql, row[0])) for row in rows]


async def _groups_of(sql: Transaction, key_id: str) -> Iterable[str]:
    rows = await sql.rows("SELECT group_uri FROM gms_key_groups WHERE key_id = $1 ORDER BY group_uri", key_id)
    return (uri for (uri,) in rows)


def _key(row: Sequence[Any], groups: Iterable[str]) -> Key:
    key_id, gmk, activation, expiry, text, state = row
    octets = bytes.fromhex(gmk) if gmk else None
    return Key(key_id, octets, activation, expiry, text, KeyState(state), tuple(groups))
