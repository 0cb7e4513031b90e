"""User profiles, and the clients that wait for their changes (SEAL-GMK-36, -45). One module holds rules and rows."""

import asyncio
import secrets
from collections.abc import Callable

from cpns import name_rule
from key_servers.errors import NotPossible, ServerError
from key_servers.https import tokens
from key_servers.https.tokens import StoredToken
from key_servers.sql import Database, Transaction, again
from mikey_sakke.group_configuration import GROUPS_MAX, URI_MAX, UserProfile

TOKEN_DAYS = 365
LONG_POLL_MAX_S = 30.0
LOOK_EVERY_S = 5.0
"""An open long poll looks so often for what another process on the same store (a command) changed."""


class NotSubscribed(ServerError):
    """The user has not subscribed to changes."""


class Profiles:
    """The profiles of a CMS. `clock` returns Unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._bells: dict[str, asyncio.Event] = {}

    # operators

    @again
    async def add_user(self, user: str, days: int = TOKEN_DAYS) -> str:
        """Make an empty profile, or give its user another token; returns the token, which is stored nowhere."""
        _require_uri(user)
        drawn, stored = tokens.draw(user, self._clock() + days * 86400, secrets.token_bytes)
        async with self._database.transaction() as sql:
            await sql.rows("INSERT INTO cms_users VALUES ($1, 1, 0) ON CONFLICT (user_uri) DO NOTHING", user)
            await sql.rows(
                "INSERT INTO cms_tokens VALUES ($1, $2, $3, $4) ON CONFLICT (user_uri) DO UPDATE SET token_id ="
                " excluded.token_id, secret_hash = excluded.secret_hash, valid_to = excluded.valid_to",
                stored.token_id,
                stored.user_uri,
                stored.secret_hash,
                stored.valid_to,
            )
        return drawn

    @again
    async def put_membership(self, user: str, group: str, gms: str) -> int:
        """Add `group`, whose GMS has the server URI `gms`, to a profile. Return the revision of the profile."""
        _require_uri(group)
        _require_uri(gms)
        async with self._database.transaction() as sql:
            if len((await self._profile(sql, user)).groups) >= GROUPS_MAX:
                raise NotPossible(f"A profile holds at most {GROUPS_MAX} groups.")
            await sql.rows(
                "INSERT INTO cms_memberships VALUES ($1, $2, $3) ON CONFLICT (user_uri, group_uri) DO UPDATE"
                " SET gms_uri = excluded.gms_uri",
                user,
                group,
                gms,
            )
            revision = await self._next_revision(sql, user)
        self._ring(user)
        return revision

    @again
    async def remove_membership(self, user: str, group: str) -> int:
        """Remove a group from a profile (SEAL-GMK-45). Return the revision of the profile."""
        async with self._database.transaction() as sql:
            if group not in (await self._profile(sql, user)).groups:
                raise NotPossible(f"{user} does not belong to {group}.")
            await sql.rows("DELETE FROM cms_memberships WHERE user_uri = $1 AND group_uri = $2", user, group)
            revision = await self._next_revision(sql, user)
        self._ring(user)
        return revision

    # users, who have been authenticated by their token

    @again
    async def token(self, token_id: str) -> StoredToken | None:
        """Return the stored token with that id."""
        async with self._database.transaction() as sql:
            rows = await sql.rows(
                "SELECT token_id, user_uri, secret_hash, valid_to FROM cms_tokens WHERE token_id = $1", token_id
            )
        return StoredToken(*rows[0]) if rows else None

    @again
    async def all(self) -> list[UserProfile]:
        """Return every profile, by user."""
        async with self._database.transaction() as sql:
            rows = await sql.rows("SELECT user_uri FROM cms_users ORDER BY user_uri")
            return [await self._profile(sql, row[0]) for row in rows]

    @again
    async def subscribe(self, user: str) -> None:
        """Subscribe the user to changes of its profile."""
        async with self._database.transaction() as sql:
            await sql.rows("UPDATE cms_users SET subscribed = 1 WHERE user_uri = $1", user)

    @again
    async def profile(self, user: str) -> UserProfile:
        """Return the present profile. Raise NotPossible."""
        async with self._database.transaction() as sql:
            return await self._profile(sql, user)

    async def profile_after(self, user: str, revision: int, wait_s: float) -> UserProfile | None:
        """Return the profile once its revision is not `revision`, within `wait_s`; None if it does not change.

        Raise NotSubscribed, NotPossible.
        """
        ends = asyncio.get_running_loop().time() + min(wait_s, LONG_POLL_MAX_S)
        bell = self._bells.setdefault(user, asyncio.Event())
        while True:
            bell.clear()
            found = await self._subscribed(user)
            if found.revision != revision:
                return found
            left = ends - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, LOOK_EVERY_S)):
                    await bell.wait()
            except TimeoutError:
                continue

    @again
    async def _subscribed(self, user: str) -> UserProfile:
        async with self._database.transaction() as sql:
            rows = await sql.rows("SELECT subscribed FROM cms_users WHERE user_uri = $1", user)
            if not rows or not rows[0][0]:
                raise NotSubscribed(f"{user} has not subscribed to its profile.")
            return await self._profile(sql, user)

    async def _next_revision(self, sql: Transaction, user: str) -> int:
        rows = await sql.rows(
            "UPDATE cms_users SET revision = revision + 1 WHERE user_uri = $1 RETURNING revision", user
        )
        return int(rows[0][0])

    def _ring(self, user: str) -> None:
        if user in self._bells:
            self._bells[user].set()

    async def _profile(self, sql: Transaction, user: str) -> UserProfile:
        rows = await sql.rows("SELECT revision FROM cms_users WHERE user_uri = $1", user)
        if not rows:
            raise NotPossible(f"There is no profile of {user}.")
        groups = await sql.rows(
            "SELECT group_uri, gms_uri FROM cms_memberships WHERE user_uri = $1 ORDER BY group_uri", user
        )
        return UserProfile(user, rows[0][0], {row[0]: row[1] for row in groups})


def _require_uri(text: str) -> None:
    wrong = name_rule.fault(text, URI_MAX)
    if wrong is not None:
        raise NotPossible(f"The URI {wrong}.")
