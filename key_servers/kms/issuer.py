"""The issuing of keys: master secrets, the KMS's certificate, and the keys of a user for a key period. No I/O.

The unique name, the key period and its offset belong to the master secrets: they are part of every UID, so a change of
one of them would void all keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mikey_sakke import eccsi, sakke
from mikey_sakke.kms_exchange import KEY_PERIOD_MAX_S, KEY_PERIOD_MIN_S, period_bounds, period_number, uid_of
from mikey_sakke.kms_values import ROLE_ROOT, Certificate, KeySet

RandomBelow = Callable[[int], int]  # n -> secret, uniform in 0..n-1: secrets.randbelow


class PeriodNotServed(Exception):
    """Keys were requested for a period other than the present and the next."""


@dataclass(frozen=True, slots=True)
class MasterSecrets:
    """KSAK (1..q-1, P-256) and z (2..q-1), and the settings that are bound to them. `repr` shows neither.

    `period`, `offset` are seconds, `valid_from` and `valid_to` Unix seconds.
    """

    kms_uri: str
    period: int
    offset: int
    valid_from: int
    valid_to: int
    ksak: int = field(repr=False)
    z: int = field(repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError with a sentence for impossible values."""
        if not KEY_PERIOD_MIN_S <= self.period <= KEY_PERIOD_MAX_S:
            raise ValueError(f"a key period has {KEY_PERIOD_MIN_S} to {KEY_PERIOD_MAX_S} s")
        if not 0 <= self.offset < self.period:
            raise ValueError("the offset of key periods is from 0 to below the period")
        if not 0 < self.valid_from < self.valid_to:
            raise ValueError("the certificate ends before it begins")
        if not (0 < self.ksak < eccsi.P256.q and 1 < self.z < sakke.CURVE.q):
            raise ValueError("a master secret is out of range")

    @classmethod
    def draw(
        cls, kms_uri: str, period: int, offset: int, valid_from: int, valid_to: int, random_below: RandomBelow
    ) -> "MasterSecrets":
        """Return new secrets for a new KMS."""
        ksak = 1 + random_below(int(eccsi.P256.q) - 1)
        z = 2 + random_below(int(sakke.CURVE.q) - 2)
        return cls(kms_uri, period, offset, valid_from, valid_to, ksak, z)


class Issuer:
    """Issues keys under one set of master secrets. `repr` shows no part of them."""

    def __init__(self, secrets: MasterSecrets, random_below: RandomBelow) -> None:
        self._secrets = secrets
        self._random_below = random_below
        self.certificate = Certificate(
            secrets.kms_uri,
            secrets.period,
            secrets.offset,
            sakke.z_of(secrets.z),
            eccsi.kpak_of(secrets.ksak),
            role=ROLE_ROOT,
            valid_from=secrets.valid_from,
            valid_to=secrets.valid_to,
            revoked=False,
            parameter_set=1,
        )

    def __repr__(self) -> str:
        return f"<Issuer {self._secrets.kms_uri}>"

    def period_for(self, now: int, moment: int | None) -> int:
        """Return the number of the key period that holds `moment` (Unix seconds; None: now). Raises PeriodNotServed.

        Only the present and the next one are served: keys of past periods are gone, and keys of far ones would let a
        user who is revoked tomorrow go on for years (SEAL-GMK-03).
        """
        present = period_number(self.certificate, now)
        number = present if moment is None else period_number(self.certificate, moment)
        if number not in (present, present + 1):
            raise PeriodNotServed(f"key period {number}: only {present} and {present + 1} are served now")
        return number

    def key_set(self, user_uri: str, number: int) -> KeySet:
        """Return the keys of a user for a key period; SSK and PVT are new each time. Takes some 20 to 200 ms."""
        secrets = self._secrets
        uid = uid_of(self.certificate, user_uri, number)
        while True:
            v = 1 + self._random_below(int(eccsi.P256.q) - 1)
            try:
                ssk, pvt = eccsi.provision(secrets.ksak, self.certificate.pub_auth_key, uid, v)
                break
            except ValueError:  # HS mod q or SSK is 0 (RFC 6507, 5.1.1): once in 2**255
                continue
        first, last = period_bounds(self.certificate, number)
        return KeySet(
            secrets.kms_uri,
            user_uri,
            uid,
            number,
            sakke.provision(secrets.z, uid),
            ssk,
            pvt,
            valid_from=first,
            valid_to=last,
            revoked=False,
        )
