"""The client of a KMS over HTTPS: it fetches certificate and keys, checks them, and stores them in `KeyMaterial`.

    async with KmsClient(access, material) as client:
        await client.refresh()      # repeatedly: fetches missing keys of the present and, in time, the next key period
        keys = client.keys()        # .kms, .decryption_key(number), .signing_key(number)

Every failure is raised as a KmsFault, and nothing of what was received is stored then.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp

from gateway_agent.val_client.key_material import KeyMaterial, UserKeys
from gateway_agent.val_client.server_access import KmsAccess
from mikey_sakke.https import read_capped
from mikey_sakke.kms_exchange import Ask, Exchange, period_bounds, period_number, uid_of
from mikey_sakke.kms_faults import KmsFault, KmsRefused, NotAuthorised, NotTrusted, Unreachable, WrongStatus
from mikey_sakke.kms_values import Certificate
from mikey_sakke.kms_xml import MEDIA_TYPE, RESPONSE_MAX

REQUEST_TIMEOUT_S = 30.0
LEAD_MAX_S = 86400  # the next period's keys are fetched at most this long before it begins
LEAD_SHARE = 10  # ... and at most this share (1/n) of a key period before
LOOK_AT_LEAST_EVERY_S = 3600


class KmsClient:
    """The connection of one user to one KMS."""

    def __init__(
        self,
        access: KmsAccess,
        material: KeyMaterial,
        clock: Callable[[], int] | None = None,
        over: Callable[[], int] | None = None,
    ) -> None:
        """`clock` returns Unix seconds; `over` returns the time by which past keys are erased, by default `clock`'s.

        Raises ConfigError for an unusable CA file.
        """
        self._access = access
        self._material = material
        self._clock = clock or (lambda: int(time.time()))
        self._over = over or self._clock
        self._exchange = Exchange(access.url, access.kms_uri, access.user_uri)
        self._tls = access.tls()
        self._session: aiohttp.ClientSession | None = None
        self._keys: UserKeys | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. The caller closes the `KeyMaterial`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def keys(self) -> UserKeys | None:
        """Return the user's keys, None before the first provisioning."""
        if self._keys is None:
            self._keys = self._material.user_keys(self._access.kms_uri, self._access.user_uri)
        return self._keys

    async def refresh(self) -> int:
        """Fetch the keys that are missing and erase past ones. Returns the seconds until the next call makes sense.

        Raises KmsFault, StoreFailed.
        """
        now = self._clock()
        if self._material.forget_past(self._over()):
            self._keys = None
        certificate = self._material.certificate(self._access.kms_uri)
        if certificate is None or period_number(certificate, now) not in self._periods():
            certificate = await self.provision()
        number = period_number(certificate, now)
        next_at = period_bounds(certificate, number + 1)[0]
        fetch_at = next_at - self._lead(certificate, number + 1)
        if number + 1 not in self._periods():
            if now < fetch_at:
                return min(fetch_at - now, LOOK_AT_LEAST_EVERY_S)
            await self.provision(next_at)
        return min(next_at - now, LOOK_AT_LEAST_EVERY_S)

    async def provision(self, moment: int | None = None) -> Certificate:
        """Fetch the KMS's certificate and the keys of the key period at `moment` (Unix seconds, None: now).

        Returns the certificate. Raises KmsFault, StoreFailed.
        """
        exchange = self._exchange
        ask = exchange.init(self._clock())
        octets = await self._post(ask)
        certificate = await asyncio.to_thread(exchange.certificate, ask, octets, self._clock())
        ask = exchange.keys(self._clock(), moment)
        octets = await self._post(ask)
        key_sets = await asyncio.to_thread(exchange.key_sets, ask, octets, self._clock(), certificate)
        self._material.put(certificate, key_sets)
        self._keys = None
        return certificate

    async def fetch_others(self) -> tuple[Certificate, ...]:
        """Fetch certificates of other KMSs. Nothing calls this until groups may have members of other KMSs.

        Returns those that are newer than the known ones. Raises KmsFault.
        """
        kms_uri = self._access.kms_uri
        ask = self._exchange.cache(self._clock(), self._material.cache_number(kms_uri))
        octets = await self._post(ask)
        found, number = await asyncio.to_thread(self._exchange.certificates, ask, octets, self._clock())
        self._material.put_others(kms_uri, found, number)
        return found

    def _periods(self) -> set[int]:
        return self._material.periods(self._access.kms_uri, self._access.user_uri)

    def _lead(self, certificate: Certificate, number: int) -> int:
        """Return how many seconds before a key period its keys are fetched. It differs by user to spread the load."""
        most = min(LEAD_MAX_S, certificate.key_period // LEAD_SHARE)
        return most * (128 + uid_of(certificate, self._access.user_uri, number)[0] // 2) // 256

    async def _post(self, ask: Ask) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S))
        headers = {
            "Authorization": f"Bearer {self._access.token.get_secret_value()}",
            "Content-Type": MEDIA_TYPE,
            "Accept": MEDIA_TYPE,
            "Accept-Encoding": "identity",  # compression would gain nothing, and could expand without limit
        }
        try:
            async with self._session.post(
                ask.url, data=ask.body, headers=headers, ssl=self._tls, allow_redirects=False
            ) as response:
                octets = await read_capped(response.content, RESPONSE_MAX)
                status = response.status
        except aiohttp.ClientSSLError:
            raise NotTrusted(f"{self._access.url} shows no TLS certificate that is trusted here.") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self._access.url} does not answer ({type(error).__name__}).") from None
        if status == HTTPStatus.UNAUTHORIZED:
            raise NotAuthorised("The KMS does not accept the token: ask its operator for a new one.")
        if status != HTTPStatus.OK:
            raise self._refusal(ask, octets, status)
        return octets

    def _refusal(self, ask: Ask, octets: bytes, status: int) -> KmsFault:
        try:
            self._exchange.message(ask, octets, self._clock())
        except KmsRefused as refused:
            return refused
        except KmsFault as fault:  # not from a KMS: a proxy's page, for example
            return WrongStatus(f"{self._access.url} answered with HTTP status {status} ({fault.code}).")
        return WrongStatus(f"{self._access.url} answered with HTTP status {status}.")
