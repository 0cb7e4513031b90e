"""Identity-specific keys of the gateway's users, in one SQLite file of mode 0600.

Keys are time-limited: those of a key period are erased soon after its end. `secure_delete` overwrites what is deleted,
and the write-ahead log, which holds older pages, is cut to nothing afterwards.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway_agent.store.errors import StoreDamaged
from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke.kms_exchange import community, decryption_key, period_bounds, signing_key
from mikey_sakke.kms_faults import CertificateChanged
from mikey_sakke.kms_values import ROLE_ROOT, Certificate, KeySet
from mikey_sakke.kms_xml import decode, encode

KEPT_AFTER_PERIOD_S = 600  # a message of its last moments may be on its way, clocks may differ by 300 s
_SCHEMA_VERSION = 1
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE certificate (kms_uri TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE cache_number (kms_uri TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE key_set (
    kms_uri TEXT NOT NULL, user_uri TEXT NOT NULL, period_number INTEGER NOT NULL,
    uid BLOB NOT NULL, rsk BLOB NOT NULL, ssk BLOB NOT NULL, pvt BLOB NOT NULL,
    PRIMARY KEY (kms_uri, user_uri, period_number)
);
PRAGMA user_version = 1;
COMMIT;
"""


class UserKeys:
    """One user's keys under one KMS, ready to use; made once for each key period. `repr` shows none."""

    def __init__(self, kms: i_message.Kms, key_sets: Iterable[KeySet]) -> None:
        self.kms = kms
        self._key_sets = {key_set.period_number: key_set for key_set in key_sets}
        self._decryption: dict[int, sakke.DecryptionKey] = {}
        self._signing: dict[int, eccsi.SigningKey] = {}

    def __repr__(self) -> str:
        return f"<UserKeys for key periods {sorted(self._key_sets)}>"

    def periods(self) -> set[int]:
        """Numbers of the key periods there are keys for."""
        return set(self._key_sets)

    def decryption_key(self, number: int) -> sakke.DecryptionKey | None:
        """The key that opens messages of a key period, None if there is none."""
        if number not in self._decryption and number in self._key_sets:
            self._decryption[number] = decryption_key(self._key_sets[number], self.kms)
        return self._decryption.get(number)

    def signing_key(self, number: int) -> eccsi.SigningKey | None:
        """The key that signs in a key period, None if there is none."""
        if number not in self._signing and number in self._key_sets:
            self._signing[number] = signing_key(self._key_sets[number], self.kms)
        return self._signing.get(number)


class KeyMaterial:
    """The file. Synchronous; what is put in was checked by `kms_exchange` before."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreDamaged when others can read it, or it is not ours."""
        _create_private(path)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            ((version,),) = self._rows("PRAGMA user_version")
            if version == 0:
                self._connection.executescript(_SCHEMA)
            elif version != _SCHEMA_VERSION:
                raise sqlite3.DatabaseError("written by a newer program")
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(
                f"The key material in {path} cannot be read: {error}.", "Remove the file: the KMS gives it again."
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def put(self, certificate: Certificate, key_sets: Iterable[KeySet]) -> None:
        """Keep the certificate of a KMS and keys made under it, all or nothing.

        Raises CertificateChanged, and keeps nothing, when another certificate of that KMS is known: who could change it
        could read everything, so a person has to `forget_kms` first.
        """
        with self._transaction():
            known = self.certificate(certificate.kms_uri)
            if known is not None and _identity(known) != _identity(certificate):
                raise CertificateChanged(f"{certificate.kms_uri} has another certificate than before.")
            self._put_certificate(certificate)
            for each in key_sets:
                values = (each.kms_uri, each.user_uri, each.period_number, each.uid, each.rsk, each.ssk, each.pvt)
                self._rows("INSERT OR REPLACE INTO key_set VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
        self._cut_log()

    def put_others(self, kms_uri: str, certificates: Iterable[Certificate], number: int | None) -> None:
        """Keep certificates of other KMSs that `kms_uri` vouches for, and its cache number."""
        with self._transaction():
            for certificate in certificates:
                known = self.certificate(certificate.kms_uri)
                if known is not None and known.role == ROLE_ROOT:
                    raise CertificateChanged(f"{certificate.kms_uri} is a KMS of our own, not another's.")
                self._put_certificate(certificate)
            if number is not None:
                self._rows("INSERT OR REPLACE INTO cache_number VALUES (?, ?)", kms_uri, number)

    def forget_kms(self, kms_uri: str) -> None:
        """Erase a KMS with all keys made under it."""
        with self._transaction():
            for table in ("certificate", "cache_number", "key_set"):
                self._rows(f"DELETE FROM {table} WHERE kms_uri = ?", kms_uri)
        self._cut_log()

    def forget_past(self, now: int) -> int:
        """Erase the keys of key periods that are over at `now` (Unix seconds); gives how many."""
        with self._transaction():
            old = [
                (kms_uri, number)
                for kms_uri, number in self._rows("SELECT DISTINCT kms_uri, period_number FROM key_set")
                if (known := self.certificate(kms_uri)) is None
                or period_bounds(known, number)[1] + KEPT_AFTER_PERIOD_S < now
            ]
            for kms_uri, number in old:
                self._rows("DELETE FROM key_set WHERE kms_uri = ? AND period_number = ?", kms_uri, number)
        if old:
            self._cut_log()
        return len(old)

    def certificate(self, kms_uri: str) -> Certificate | None:
        """The known certificate of a KMS, our own or another's."""
        rows = self._rows("SELECT document FROM certificate WHERE kms_uri = ?", kms_uri)
        return decode(rows[0][0], Certificate) if rows else None

    def cache_number(self, kms_uri: str) -> int | None:
        """The cache number up to which the certificates of others are known from `kms_uri`."""
        rows = self._rows("SELECT number FROM cache_number WHERE kms_uri = ?", kms_uri)
        return int(rows[0][0]) if rows else None

    def periods(self, kms_uri: str, user_uri: str) -> set[int]:
        """Numbers of the key periods there are keys for."""
        rows = self._rows("SELECT period_number FROM key_set WHERE kms_uri = ? AND user_uri = ?", kms_uri, user_uri)
        return {int(number) for (number,) in rows}

    def user_keys(self, kms_uri: str, user_uri: str) -> UserKeys | None:
        """The keys of a user, None before the first provisioning. Takes some hundred milliseconds."""
        certificate, key_sets = self.certificate(kms_uri), self.key_sets(kms_uri, user_uri)
        return UserKeys(community(certificate), key_sets) if certificate and key_sets else None

    def key_sets(self, kms_uri: str, user_uri: str) -> list[KeySet]:
        """The key sets of a user, as they came, by key period."""
        rows = self._rows(
            "SELECT uid, period_number, rsk, ssk, pvt FROM key_set WHERE kms_uri = ? AND user_uri = ?"
            " ORDER BY period_number",
            kms_uri,
            user_uri,
        )
        return [KeySet(kms_uri, user_uri, *row) for row in rows]

    def _put_certificate(self, certificate: Certificate) -> None:
        self._rows("INSERT OR REPLACE INTO certificate VALUES (?, ?)", certificate.kms_uri, encode(certificate))

    def _rows(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def _cut_log(self) -> None:
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._rows("ROLLBACK")
            raise
        self._rows("COMMIT")


def _identity(certificate: Certificate) -> tuple[object, ...]:
    """What makes keys of one certificate useless with another; the rest may be renewed."""
    return (
        certificate.kms_uri,
        certificate.role,
        certificate.key_period,
        certificate.key_offset,
        certificate.pub_enc_key,
        certificate.pub_auth_key,
    )


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        status = path.lstat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise StoreDamaged(
                f"{path} holds keys and others can read it.", f"Run: chown $USER {path}; chmod 600 {path}"
            ) from None
