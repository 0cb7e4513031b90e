"""The rows of a KMS: users with their roles and tokens, certificates of other KMSs. Master secrets are in a file."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from key_servers.errors import ServerError
from key_servers.https.tokens import StoredToken
from key_servers.sql import Database, Transaction, again, migrate

_USER = "user_uri, role, added_at, revoked_at"


class UserUnknown(ServerError):
    """There is no such user."""


class UserExists(ServerError):
    """The user exists already, and may be revoked."""


class Role(StrEnum):
    """The role of an identity: a user, or a group management server that is authorised to create groups."""

    USER = "user"
    GMS = "gms"


@dataclass(frozen=True, slots=True)
class KmsUser:
    """One identity. Times are Unix seconds; with `revoked_at` None it may have keys."""

    user_uri: str
    role: Role
    added_at: int
    revoked_at: int | None = None


class KmsStore:
    """The store of a KMS. All methods raise StoreFailed when the database does."""

    def __init__(self, database: Database) -> None:
        """Keep the database; only `open` calls this."""
        self._database = database

    @classmethod
    async def open(cls, database: Database) -> "KmsStore":
        """Bring the schema up to date; the store then owns the database."""
        try:
            await migrate(database, "key_servers.kms.migrations")
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    @again
    async def add_user(self, user: KmsUser, token: StoredToken) -> None:
        """Add a user with a first token. Raises UserExists."""
        async with self._database.transaction() as sql:
            added = await sql.rows(
                f"INSERT INTO kms_users ({_USER}) VALUES ($1, $2, $3, NULL) ON CONFLICT DO NOTHING RETURNING user_uri",
                user.user_uri,
                user.role.value,
                user.added_at,
            )
            if not added:
                raise UserExists(f"{user.user_uri} is known already.", "For another token: keycast kms user token")
            await _put_token(sql, token)

    @again
    async def replace_token(self, token: StoredToken) -> None:
        """Store another token for a user; the old one ends. Raise UserUnknown."""
        async with self._database.transaction() as sql:
            if await _user(sql, token.user_uri) is None:
                raise _unknown(token.user_uri)
            await _put_token(sql, token)

    @again
    async def revoke_user(self, user_uri: str, at: int) -> None:
        """Mark the user as revoked, for ever. Raise UserUnknown."""
        async with self._database.transaction() as sql:
            changed = await sql.rows(
                "UPDATE kms_users SET revoked_at = coalesce(revoked_at, $2) WHERE user_uri = $1 RETURNING user_uri",
                user_uri,
                at,
            )
            if not changed:
                raise _unknown(user_uri)

    @again
    async def user(self, user_uri: str) -> KmsUser | None:
        """Return one user, revoked or not."""
        async with self._database.transaction() as sql:
            return await _user(sql, user_uri)

    @again
    async def users(self) -> list[KmsUser]:
        """Return all users, by URI."""
        async with self._database.transaction() as sql:
            rows = await sql.rows(f"SELECT {_USER} FROM kms_users ORDER BY user_uri")
        return [_as_user(row) for row in rows]

    @again
    async def token(self, token_id: str) -> tuple[StoredToken, KmsUser] | None:
        """Return the token with that id, and its user."""
        async with self._database.transaction() as sql:
            rows = await sql.rows(
                "SELECT token_id, user_uri, secret_hash, valid_to FROM kms_tokens WHERE token_id = $1", token_id
            )
            user = await _user(sql, rows[0][1]) if rows else None
        return None if user is None else (StoredToken(*rows[0]), user)

    @again
    async def put_certificate(self, kms_uri: str, document: str) -> int:
        """Add or replace the certificate (XML) of another KMS; return the new cache number."""
        async with self._database.transaction() as sql:
            ((number,),) = await sql.rows("UPDATE kms_cache_number SET newest = newest + 1 RETURNING newest")
            await sql.rows(
                "INSERT INTO kms_certificates VALUES ($1, $2, $3) ON CONFLICT (kms_uri) DO UPDATE"
                " SET cache_number = excluded.cache_number, document = excluded.document",
                kms_uri,
                number,
                document,
            )
        return int(number)

    @again
    async def certificates(self, newer_than: int) -> tuple[list[str], int]:
        """Return the certificates (XML) of other KMSs above a cache number, oldest first, and the newest number."""
        async with self._database.transaction() as sql:
            rows = await sql.rows(
                "SELECT document FROM kms_certificates WHERE cache_number > $1 ORDER BY cache_number", newer_than
            )
            ((newest,),) = await sql.rows("SELECT newest FROM kms_cache_number")
        return [row[0] for row in rows], int(newest)


async def _user(sql: Transaction, user_uri: str) -> KmsUser | None:
    rows = await sql.rows(f"SELECT {_USER} FROM kms_users WHERE user_uri = $1", user_uri)
    return _as_user(rows[0]) if rows else None


async def _put_token(sql: Transaction, token: StoredToken) -> None:
    await sql.rows("DELETE FROM kms_tokens WHERE user_uri = $1", token.user_uri)
    await sql.rows(
        "INSERT INTO kms_tokens VALUES ($1, $2, $3, $4)",
        token.token_id,
        token.user_uri,
        token.secret_hash,
        token.valid_to,
    )


def _as_user(row: tuple[Any, ...]) -> KmsUser:
    user_uri, role, added_at, revoked_at = row
    return KmsUser(user_uri, Role(role), added_at, revoked_at)


def _unknown(user_uri: str) -> UserUnknown:
    return UserUnknown(f"{user_uri} is not known here.", "See: keycast kms show")
