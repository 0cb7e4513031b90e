"""The tokens by which operators use the REST interface, and what a token may do: its scope.

Tokens are made, listed and ended on the machine of the Server only, over its control socket: no token makes another.
"""

from dataclasses import dataclass
from enum import StrEnum

from key_servers.cpns_server.database import ServerDatabase
from key_servers.https.tokens import StoredToken


class Scope(StrEnum):
    """What a token may do. Each scope includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Return True if a token of this scope may do what needs `other`."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """A token as it is listed: its ID, which is no secret, whose it is, its scope, and its end in Unix seconds."""

    token_id: str
    operator: str
    scope: Scope
    valid_to: int


class OperatorTokens:
    """The tokens in the store. All methods raise StoreFailed."""

    def __init__(self, database: ServerDatabase) -> None:
        self._database = database

    def add(self, token: StoredToken, scope: Scope) -> None:
        """Store a new token."""
        with self._database.transaction():
            self._database.write(
                "INSERT INTO operator_token (token_id, operator, scope, secret_hash, valid_to) VALUES (?, ?, ?, ?, ?)",
                token.token_id,
                token.user_uri,
                scope.value,
                token.secret_hash,
                token.valid_to,
            )

    def find(self, token_id: str) -> tuple[StoredToken, Scope] | None:
        """Return the token with that ID and its scope, None if there is none."""
        rows = self._database.rows(
            "SELECT token_id, operator, secret_hash, valid_to, scope FROM operator_token WHERE token_id = ?", token_id
        )
        return (StoredToken(*rows[0][:4]), Scope(rows[0][4])) if rows else None

    def all(self) -> tuple[OperatorToken, ...]:
        """Return all tokens, also those that have ended by themselves."""
        rows = self._database.rows(
            "SELECT token_id, operator, scope, valid_to FROM operator_token ORDER BY operator, token_id"
        )
        return tuple(OperatorToken(row[0], row[1], Scope(row[2]), row[3]) for row in rows)

    def revoke(self, operator: str) -> None:
        """End all tokens of an operator."""
        with self._database.transaction():
            self._database.write("DELETE FROM operator_token WHERE operator = ?", operator)
