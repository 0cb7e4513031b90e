"""The identity-specific keys of the gateway's users, in one private file that overwrites deleted content.

The keys of a key period are erased soon after its end.
"""

from collections.abc import Iterable
from pathlib import Path

from gateway_agent.store.errors import FAULTS
from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke.kms_exchange import community, decryption_key, period_bounds, signing_key
from mikey_sakke.kms_faults import CertificateChanged
from mikey_sakke.kms_values import ROLE_ROOT, Certificate, KeySet
from mikey_sakke.kms_xml import decode, encode
from private_store.sqlite_file import SqliteFile

KEPT_AFTER_PERIOD_S = 600  # a message of its last moments may be under way, and clocks may differ by 300 s
_TABLES = """
CREATE TABLE certificate (kms_uri TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE cache_number (kms_uri TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE key_set (
    kms_uri TEXT NOT NULL, user_uri TEXT NOT NULL, period_number INTEGER NOT NULL,
    uid BLOB NOT NULL, rsk BLOB NOT NULL, ssk BLOB NOT NULL, pvt BLOB NOT NULL,
    PRIMARY KEY (kms_uri, user_uri, period_number)
);
"""


class UserKeys:
    """One user's keys under one KMS. Each is prepared when it is first used. `repr` shows no key."""

    def __init__(self, kms: i_message.Kms, key_sets: Iterable[KeySet]) -> None:
        self.kms = kms
        self._key_sets = {key_set.period_number: key_set for key_set in key_sets}
        self._decryption: dict[int, sakke.DecryptionKey] = {}
        self._signing: dict[int, eccsi.SigningKey] = {}

    def __repr__(self) -> str:
        return f"<UserKeys for key periods {sorted(self._key_sets)}>"

    def periods(self) -> set[int]:
        """Return the numbers of the key periods that have keys."""
        return set(self._key_sets)

    def decryption_key(self, number: int) -> sakke.DecryptionKey | None:
        """Return the key that opens messages of a key period, None if there is none."""
        if number not in self._decryption and number in self._key_sets:
            self._decryption[number] = decryption_key(self._key_sets[number], self.kms)
        return self._decryption.get(number)

    def signing_key(self, number: int) -> eccsi.SigningKey | None:
        """Return the key that signs in a key period, None if there is none."""
        if number not in self._signing and number in self._key_sets:
            self._signing[number] = signing_key(self._key_sets[number], self.kms)
        return self._signing.get(number)


class KeyMaterial:
    """The file with the keys. Its methods are synchronous. `kms_exchange` must have checked what is stored."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreDamaged if other users can read it, or it is no file of this program."""
        self._file = SqliteFile(
            path,
            [_TABLES],
            holds="key material",
            remedy="The KMS gives it again: move it away, then keycast gateway lost seal/seal_keys.sqlite3.",
            faults=FAULTS,
            erase_always=True,
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def put(self, certificate: Certificate, key_sets: Iterable[KeySet]) -> None:
        """Store the certificate of a KMS and the keys made under it, all or nothing.

        Raises CertificateChanged, and stores nothing, if another certificate of that KMS is known. An attacker who
        could change the certificate could read everything, so a person has to `forget_kms` first. Raises StoreFailed.
        """
        with self._file.transaction():
            known = self.certificate(certificate.kms_uri)
            if known is not None and _identity(known) != _identity(certificate):
                raise CertificateChanged(f"{certificate.kms_uri} has another certificate than before.")
            self._put_certificate(certificate)
            for each in key_sets:
                values = (each.kms_uri, each.user_uri, each.period_number, each.uid, each.rsk, each.ssk, each.pvt)
                self._file.rows("INSERT OR REPLACE INTO key_set VALUES (?, ?, ?, ?, ?, ?, ?)", *values)

    def put_others(self, kms_uri: str, certificates: Iterable[Certificate], number: int | None) -> None:
        """Store certificates of other KMSs that `kms_uri` vouches for, and its cache number.

        Raises CertificateChanged if one of them is of a KMS that the gateway's users have keys of.
        """
        with self._file.transaction():
            for certificate in certificates:
                known = self.certificate(certificate.kms_uri)
                if known is not None and known.role == ROLE_ROOT:
                    raise CertificateChanged(f"{certificate.kms_uri} is a KMS of our own, not another's.")
                self._put_certificate(certificate)
            if number is not None:
                self._file.rows("INSERT OR REPLACE INTO cache_number VALUES (?, ?)", kms_uri, number)

    def forget_kms(self, kms_uri: str) -> None:
        """Erase a KMS with all keys made under it."""
        with self._file.transaction():
            for table in ("certificate", "cache_number", "key_set"):
                self._file.rows(f"DELETE FROM {table} WHERE kms_uri = ?", kms_uri)

    def forget_past(self, now: int) -> int:
        """Erase the keys of key periods that have ended at `now` (Unix seconds). Returns the number of periods."""
        with self._file.transaction():
            old = [
                (kms_uri, number)
                for kms_uri, number in self._file.rows("SELECT DISTINCT kms_uri, period_number FROM key_set")
                if (known := self.certificate(kms_uri)) is None
                or period_bounds(known, number)[1] + KEPT_AFTER_PERIOD_S < now
            ]
            for kms_uri, number in old:
                self._file.rows("DELETE FROM key_set WHERE kms_uri = ? AND period_number = ?", kms_uri, number)
        return len(old)

    def certificate(self, kms_uri: str) -> Certificate | None:
        """Return the known certificate of a KMS, None if there is none."""
        rows = self._file.rows("SELECT document FROM certificate WHERE kms_uri = ?", kms_uri)
        return decode(rows[0][0], Certificate) if rows else None

    def cache_number(self, kms_uri: str) -> int | None:
        """Return the cache number up to which certificates of other KMSs are known from `kms_uri`, None for none."""
        rows = self._file.rows("SELECT number FROM cache_number WHERE kms_uri = ?", kms_uri)
        return int(rows[0][0]) if rows else None

    def periods(self, kms_uri: str, user_uri: str) -> set[int]:
        """Return the numbers of the key periods for which the user has keys."""
        query = "SELECT period_number FROM key_set WHERE kms_uri = ? AND user_uri = ?"
        rows = self._file.rows(query, kms_uri, user_uri)
        return {int(number) for (number,) in rows}

    def user_keys(self, kms_uri: str, user_uri: str) -> UserKeys | None:
        """Return the keys of a user, None before the first provisioning. This needs some hundred milliseconds."""
        certificate, key_sets = self.certificate(kms_uri), self.key_sets(kms_uri, user_uri)
        return UserKeys(community(certificate), key_sets) if certificate and key_sets else None

    def key_sets(self, kms_uri: str, user_uri: str) -> list[KeySet]:
        """Return the key sets of a user as the KMS sent them, in the order of key periods."""
        rows = self._file.rows(
            "SELECT uid, period_number, rsk, ssk, pvt FROM key_set WHERE kms_uri = ? AND user_uri = ?"
            " ORDER BY period_number",
            kms_uri,
            user_uri,
        )
        return [KeySet(kms_uri, user_uri, *row) for row in rows]

    def _put_certificate(self, certificate: Certificate) -> None:
        self._file.rows("INSERT OR REPLACE INTO certificate VALUES (?, ?)", certificate.kms_uri, encode(certificate))


def _identity(certificate: Certificate) -> tuple[object, ...]:
    """Return the parts of a certificate that its keys depend on. The other parts may change."""
    return (
        certificate.kms_uri,
        certificate.role,
        certificate.key_period,
        certificate.key_offset,
        certificate.pub_enc_key,
        certificate.pub_auth_key,
    )
