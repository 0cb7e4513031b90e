"""Bearer tokens: `<id>.<secret>`. The id finds the row and is no secret; of the secret only its SHA-256 is stored.

A plain hash is enough: the secret has 256 random bits and cannot be guessed.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from key_servers.https import tuning

_TOKEN = re.compile(r"([0-9a-f]{12})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The row of a token: its user, and its end (Unix seconds)."""

    token_id: str
    user_uri: str
    secret_hash: str = field(repr=False)
    valid_to: int


def draw(user_uri: str, valid_to: int, random_octets: Callable[[int], bytes]) -> tuple[str, StoredToken]:
    """Return a new token for a user: the text that the user gets, once, and the row that is stored."""
    token_id = random_octets(tuning.TOKEN_ID_OCTETS).hex()
    secret = random_octets(tuning.TOKEN_SECRET_OCTETS).hex()
    return f"{token_id}.{secret}", StoredToken(token_id, user_uri, _hash(secret), valid_to)


def split(authorization: str | None) -> tuple[str, str] | None:
    """Return (id, secret) of an Authorization header (RFC 6750, 2.1), None if there is no such token in it."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or len(token) > tuning.TOKEN_MAX:
        return None
    found = _TOKEN.fullmatch(token.strip())
    return (found[1], found[2]) if found else None


def fits(secret: str, stored: StoredToken | None, now: int) -> bool:
    """Return True if `secret` is that of `stored` and it is valid at `now`.

    Without a row it takes as long as for a wrong secret.
    """
    expected = stored.secret_hash if stored else _hash("")
    right = hmac.compare_digest(_hash(secret), expected)
    return right and stored is not None and now <= stored.valid_to


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
