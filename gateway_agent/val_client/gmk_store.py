"""The GMKs of one user with their parameters, in one private file that overwrites deleted content (SEAL-GMK-47).

The IDs of revoked keys and the digests of messages are kept longer than the keys.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gateway_agent.store.errors import FAULTS
from mikey_sakke.group_configuration import UserProfile, decode_profile, encode_profile
from private_store.sqlite_file import SqliteFile

_TABLES = """
CREATE TABLE gmk (
    key_id BLOB PRIMARY KEY, gms TEXT NOT NULL, gmk BLOB NOT NULL, guk_id BLOB NOT NULL, endpoint_key BLOB NOT NULL,
    activation INTEGER NOT NULL, effective INTEGER NOT NULL, expiry INTEGER NOT NULL, text TEXT NOT NULL,
    arrival INTEGER NOT NULL
);
CREATE TABLE gmk_group (
    key_id BLOB NOT NULL REFERENCES gmk (key_id) ON DELETE CASCADE, group_uri TEXT NOT NULL,
    PRIMARY KEY (key_id, group_uri)
);
CREATE TABLE revoked (gms TEXT NOT NULL, key_id BLOB NOT NULL, PRIMARY KEY (gms, key_id));
CREATE TABLE seen (digest BLOB PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE profile (user_uri TEXT PRIMARY KEY, document BLOB NOT NULL);
"""
_COLUMNS = "key_id, gms, gmk, guk_id, endpoint_key, activation, effective, expiry, text"


@dataclass(frozen=True, slots=True)
class StoredGmk:
    """A GMK with GMK-ID and GUK-ID (4 octets each), end-point-specific key and parameters. Times are Unix seconds.

    `effective`: the Activation Time, or the time of the message if that says "at once"; `expiry`: 0 if there is none.
    `repr` shows no key.
    """

    key_id: bytes
    gms: str
    gmk: bytes = field(repr=False)
    guk_id: bytes
    endpoint_key: bytes = field(repr=False)
    activation: int
    effective: int
    expiry: int
    text: str
    groups: tuple[str, ...]

    def active(self, now: int) -> bool:
        """Return True if `now` is between the activation and the expiry of the key."""
        return self.effective <= now and not (self.expiry and now >= self.expiry)


class GmkStore:
    """The file with the GMKs of one user. Its methods are synchronous; writes belong inside `transaction()`."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreDamaged if other users can read it, or it is no file of this program."""
        self._file = SqliteFile(
            path,
            [_TABLES],
            holds="GMKs",
            remedy="Put back a backup: keycast gateway restore FILE. Without one, move it away, then: keycast gateway "
            "lost seal/seal_gmks.sqlite3; the GMS gives GMKs again: keycast gms key retry GMK-ID --user USER.",
            faults=FAULTS,
            erase_always=True,
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def image(self) -> bytes:
        """Return the octets of a file for a backup: the profile and the IDs of revoked keys and messages, no GMKs."""
        return self._file.image("DELETE FROM gmk_group", "DELETE FROM gmk")

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context whose writes are all stored at its end, with deleted keys overwritten, or none of them.

        Raises StoreFailed.
        """
        return self._file.transaction()

    def put(self, key: StoredGmk) -> None:
        """Store a new GMK with its groups."""
        ((arrival,),) = self._file.rows("SELECT 1 + coalesce(max(arrival), 0) FROM gmk")
        self._file.rows(
            f"INSERT INTO gmk ({_COLUMNS}, arrival) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(key.key_id, key.gms, key.gmk, key.guk_id, key.endpoint_key),
            *(key.activation, key.effective, key.expiry, key.text, arrival),
        )
        self.add_groups(key.key_id, key.groups)

    def add_groups(self, key_id: bytes, groups: tuple[str, ...]) -> None:
        """Store that the GMK serves these groups, too."""
        for group in groups:
            self._file.rows("INSERT OR IGNORE INTO gmk_group VALUES (?, ?)", key_id, group)

    def get(self, key_id: bytes) -> StoredGmk | None:
        """Return the GMK with this GMK-ID, None if there is none."""
        return next(iter(self._keys("key_id = ?", key_id)), None)

    def of_group(self, group: str) -> list[StoredGmk]:
        """Return the GMKs of a group, in the order in which they came."""
        return self._keys("key_id IN (SELECT key_id FROM gmk_group WHERE group_uri = ?)", group)

    def all(self) -> list[StoredGmk]:
        """Return every GMK."""
        return self._keys("? = 0", 0)

    def erase(self, key_id: bytes) -> None:
        """Erase a GMK with everything that belongs to it."""
        self._file.rows("DELETE FROM gmk WHERE key_id = ?", key_id)

    def take_group(self, group: str) -> list[bytes]:
        """Remove a group and erase the GMKs that serve no other group. Returns their GMK-IDs."""
        self._file.rows("DELETE FROM gmk_group WHERE group_uri = ?", group)
        found = self._file.rows("SELECT key_id FROM gmk WHERE key_id NOT IN (SELECT key_id FROM gmk_group)")
        for (key_id,) in found:
            self.erase(key_id)
        return [bytes(key_id) for (key_id,) in found]

    def set_revoked(self, gms: str, key_id: bytes) -> None:
        """Store, without end, that this GMS has revoked this GMK-ID."""
        self._file.rows("INSERT OR IGNORE INTO revoked VALUES (?, ?)", gms, key_id)

    def is_revoked(self, gms: str, key_id: bytes) -> bool:
        """Return True if this GMS has revoked this GMK-ID."""
        return bool(self._file.rows("SELECT 1 FROM revoked WHERE gms = ? AND key_id = ?", gms, key_id))

    def set_seen(self, digest: bytes, until: int) -> None:
        """Store the digest of a message until `until` (Unix seconds), when it is outside of the clock window."""
        self._file.rows("INSERT OR REPLACE INTO seen VALUES (?, ?)", digest, until)

    def is_seen(self, digest: bytes) -> bool:
        """Return True if the message was processed before."""
        return bool(self._file.rows("SELECT 1 FROM seen WHERE digest = ?", digest))

    def forget_past(self, now: int) -> list[str]:
        """Erase GMKs that have expired and digests that are past their time. Returns the groups of those GMKs."""
        self._file.rows("DELETE FROM seen WHERE until < ?", now)
        gone = self._keys("expiry > 0 AND expiry <= ?", now)
        for key in gone:
            self.erase(key.key_id)
        return sorted({group for key in gone for group in key.groups})

    def profile(self, user: str) -> UserProfile | None:
        """Return the last profile of the user, None if there is none."""
        rows = self._file.rows("SELECT document FROM profile WHERE user_uri = ?", user)
        return decode_profile(rows[0][0]) if rows else None

    def put_profile(self, profile: UserProfile) -> None:
        """Store a profile in place of the last one."""
        self._file.rows("INSERT OR REPLACE INTO profile VALUES (?, ?)", profile.user, encode_profile(profile))

    def _keys(self, condition: str, value: str | int | bytes) -> list[StoredGmk]:
        rows = self._file.rows(f"SELECT {_COLUMNS} FROM gmk WHERE {condition} ORDER BY arrival", value)
        return [StoredGmk(*(*row, self._groups(row[0]))) for row in rows]

    def _groups(self, key_id: bytes) -> tuple[str, ...]:
        rows = self._file.rows("SELECT group_uri FROM gmk_group WHERE key_id = ? ORDER BY group_uri", key_id)
        return tuple(group for (group,) in rows)
