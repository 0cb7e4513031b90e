"""A KMS put together. This is the only module that names concrete parts.

config = KmsConfig(state_dir=folder, tls_certificate=..., tls_key=...)
create(config, "kms.example.org")                  # once: master secrets
async with await Kms.open(config) as kms:
    token = await kms.add_user("sip:alice@example.org")
    kms.urls                                       # https://127.0.0.1:8443
"""

import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

from key_servers.errors import NotPossible
from key_servers.https import tokens
from key_servers.identities import fault_of_name
from key_servers.kms import http, master_secrets, tuning
from key_servers.kms.config import MASTER_SECRETS_FILE, STORE_FILE, KmsConfig
from key_servers.kms.issuer import Issuer, MasterSecrets
from key_servers.kms.service import Clock, KeyService
from key_servers.kms.store import KmsStore, KmsUser, Role
from key_servers.sql import open_database
from mikey_sakke.kms_exchange import check_certificate
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_table import TEXT_MAX
from mikey_sakke.kms_values import ROLE_EXTERNAL, Certificate
from mikey_sakke.kms_xml import decode, encode

_DAY_S = 86400


def create(
    config: KmsConfig, kms_uri: str, period_s: int = tuning.KEY_PERIOD_S, offset_s: int = 0, now: int | None = None
) -> None:
    """Make the master secrets of a new KMS; its name and key periods can never be changed. Raise ServerError.

    `period_s` and `offset_s` are seconds, counted from 1900-01-01 (UserKeyPeriod, UserKeyOffset).
    """
    begins = int(time.time()) if now is None else now
    ends = begins + tuning.CERTIFICATE_DAYS * _DAY_S
    if fault := fault_of_name(kms_uri, TEXT_MAX):
        raise NotPossible(fault)
    try:
        drawn = MasterSecrets.draw(kms_uri, period_s, offset_s, begins, ends, secrets.randbelow)
    except ValueError as error:
        raise NotPossible(f"Not possible: {error}.") from None
    master_secrets.create(config.state_dir / MASTER_SECRETS_FILE, drawn)


class KmsServer:
    """One key management server. All methods belong to the event loop that `open` ran in; all raise StoreFailed."""

    def __init__(self, config: KmsConfig, issuer: Issuer, store: KmsStore, clock: Clock) -> None:
        """Keep the parts; only `open` calls this."""
        self._config = config
        self._issuer = issuer
        self._store = store
        self._clock = clock
        self._workers = ThreadPoolExecutor(tuning.WORKERS, thread_name_prefix="kms")
        self.counters: Counter[str] = Counter()
        self._door = http.door(KeyService(issuer, store, clock, self._workers), clock, self.counters)

    @classmethod
    async def open(cls, config: KmsConfig, *, clock: Clock | None = None, listen: bool = True) -> Self:
        """Read the master secrets, open the store and listen. `clock` returns Unix seconds. Raise ServerError.

        Without `listen` only the operator's methods work, for commands while a KMS runs.
        """
        issuer = Issuer(master_secrets.load(config.state_dir / MASTER_SECRETS_FILE), secrets.randbelow)
        store = await KmsStore.open(await open_database(config.database_url, config.state_dir / STORE_FILE))
        kms = cls(config, issuer, store, clock or (lambda: int(time.time())))
        try:
            if listen:
                await kms._door.open(config)
        except BaseException:
            await kms.close()
            raise
        return kms

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, finish the requests under way, close the store."""
        await self._door.close()
        self._workers.shutdown(cancel_futures=True)
        await self._store.close()

    @property
    def urls(self) -> list[str]:
        """The URLs at which the KMS can be reached."""
        return self._door.urls

    @property
    def connections(self) -> Counter[str]:
        """The number of connections that ended in each way, by name."""
        return self._door.log.connections

    @property
    def certificate(self) -> Certificate:
        """The certificate of this KMS (role Root)."""
        return self._issuer.certificate

    def export_certificate(self) -> bytes:
        """Return the certificate as XML for another KMS to import."""
        return encode(self._issuer.certificate)

    async def add_user(self, user_uri: str, role: Role = Role.USER, days: int = tuning.TOKEN_DAYS) -> str:
        """Let a user, or a GMS by its server URI, have keys. Return its token, which is stored nowhere.

        Raise NotPossible and `store.UserExists`.
        """
        if fault := fault_of_name(user_uri, TEXT_MAX):
            raise NotPossible(fault)
        await self._require_not_revoked(user_uri)
        now = self._clock()
        token, stored = tokens.draw(user_uri, now + days * _DAY_S, secrets.token_bytes)
        await self._store.add_user(KmsUser(user_uri, role, now), stored)
        return token

    async def new_token(self, user_uri: str, days: int = tuning.TOKEN_DAYS) -> str:
        """Return another token for a user; the old one ends. Raise `store.UserUnknown`, NotPossible."""
        await self._require_not_revoked(user_uri)
        token, stored = tokens.draw(user_uri, self._clock() + days * _DAY_S, secrets.token_bytes)
        await self._store.replace_token(stored)
        return token

    async def revoke_user(self, user_uri: str) -> None:
        """Hand out no more keys to a user. Its keys end with their key period, the next one at the latest.

        Raise `store.UserUnknown`, NotPossible.
        """
        await self._require_not_revoked(user_uri)
        await self._store.revoke_user(user_uri, self._clock())

    async def users(self) -> list[KmsUser]:
        """Return all users, by URI."""
        return await self._store.users()

    async def import_certificate(self, document: bytes) -> Certificate:
        """Hand out the certificate (XML) of another KMS as an External one from now on. Raises NotPossible."""
        try:
            certificate = replace(decode(document, Certificate), role=ROLE_EXTERNAL)
            check_certificate(certificate, ROLE_EXTERNAL, self._clock())
        except KmsFault as fault:
            raise NotPossible(f"Not usable: {fault}") from None
        if certificate.kms_uri == self.certificate.kms_uri:
            raise NotPossible("That is this KMS itself.")
        await self._store.put_certificate(certificate.kms_uri, encode(certificate).decode())
        return certificate

    async def _require_not_revoked(self, user_uri: str) -> None:
        user = await self._store.user(user_uri)
        if user is not None and user.revoked_at is not None:
            raise NotPossible(f"{user_uri} is revoked, for ever.", "Give that person or device another identity.")
