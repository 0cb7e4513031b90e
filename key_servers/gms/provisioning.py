"""The GMS's own identity-specific keys, provisioned by the KMS for its server URI (SEAL-GMK-04, -20; MC-GMK-05)."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp

from key_servers.errors import ServerError
from key_servers.gms import tuning
from mikey_sakke import kms_exchange
from mikey_sakke.https import checked_url, client_tls, read_capped
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_values import Certificate, KeySet
from mikey_sakke.kms_xml import MEDIA_TYPE, RESPONSE_MAX
from private_store import plain_file

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 20

_T = TypeVar("_T")


class NotProvisioned(ServerError):
    """The GMS has no keys to sign with at present."""


class KeyProvisioning(Protocol):
    """The source of the GMS's keys. Both methods raise NotProvisioned."""

    async def certificate(self) -> Certificate:
        """Return the certificate of the KMS, checked."""

    async def key_set(self, moment: int) -> KeySet:
        """Return the GMS's keys for the key period of `moment` (Unix seconds), checked."""


class KmsOverHttps:
    """A KMS at `base_url`, to which the GMS proves itself by a bearer token."""

    def __init__(
        self,
        base_url: str,
        kms_uri: str,
        gms_uri: str,
        token: str,
        ca_file: Path | None,
        clock: Callable[[], int],
    ) -> None:
        """Keep the settings. `ca_file` is a PEM file with the only CA trusted for the KMS, None: those of the system.

        Raise NotProvisioned for a URL or a CA file that cannot be used.
        """
        if ca_file is not None:
            plain_file.read(ca_file, plain_file.PEM_MAX, NotProvisioned)
        try:
            base_url = checked_url(base_url)
            self._tls = client_tls(base_url, ca_file)
        except ValueError as error:
            raise NotProvisioned(f"The KMS cannot be asked: {error}.", "Correct its URL or CA file.") from None
        self._exchange = kms_exchange.Exchange(base_url, kms_uri, gms_uri)
        self._token = token
        self._clock = clock
        self._certificate: Certificate | None = None

    async def certificate(self) -> Certificate:
        """Return the certificate of the KMS, checked; it is fetched once."""
        if self._certificate is None:
            now = self._clock()
            ask = self._exchange.init(now)
            octets = await self._post(ask)
            self._certificate = await self._checked(lambda: self._exchange.certificate(ask, octets, now))
        return self._certificate

    async def key_set(self, moment: int) -> KeySet:
        """Fetch and return the GMS's keys for the key period of `moment` (Unix seconds), checked."""
        certificate, now = await self.certificate(), self._clock()
        ask = self._exchange.keys(now, moment)
        octets = await self._post(ask)
        found = await self._checked(lambda: self._exchange.key_sets(ask, octets, now, certificate))
        wanted = kms_exchange.period_number(certificate, moment)
        return next(key_set for key_set in found if key_set.period_number == wanted)

    async def _checked(self, check: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(check)
        except KmsFault as fault:
            raise NotProvisioned(f"The answer of the KMS is not usable: {fault}") from None

    async def _post(self, ask: kms_exchange.Ask) -> bytes:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": MEDIA_TYPE,
            "Accept-Encoding": "identity",  # answers are short, and a compressed one could expand without limit
        }
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(ask.url, data=ask.body, headers=headers, ssl=self._tls, allow_redirects=False) as answer,
            ):
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    raise NotProvisioned("The KMS does not know the token of this GMS.", "Give the GMS a new one.")
                return await read_capped(answer.content, RESPONSE_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotProvisioned(f"The KMS does not answer ({type(error).__name__}).", "Check its URL.") from None


@dataclass(frozen=True, slots=True)
class SigningMaterial:
    """The keys that a worker needs to sign in one key period; `repr` shows no secret."""

    number: int
    uid: bytes
    ssk: bytes = field(repr=False)
    pvt: bytes = field(repr=False)


class OwnKeys:
    """The KMS's certificate, and the GMS's signing material of the key periods in use."""

    def __init__(self, provisioning: KeyProvisioning) -> None:
        self._provisioning = provisioning
        self._by_number: dict[int, SigningMaterial] = {}
        self._turn = asyncio.Lock()
        self._look_ahead_at = 0
        self.certificate: Certificate

    async def open(self, now: int) -> None:
        """Fetch the certificate and the present keys. Raise NotProvisioned: without them the GMS must not start."""
        self.certificate = await self._provisioning.certificate()
        await self.material(now)

    async def material(self, now: int) -> SigningMaterial:
        """Return the signing material of the key period of `now`, fetched when it is missing. Raises NotProvisioned."""
        number = kms_exchange.period_number(self.certificate, now)
        async with self._turn:
            if number not in self._by_number:
                await self._fetch(now)
            ahead = now + tuning.OWN_KEYS_AHEAD_S
            wanted = kms_exchange.period_number(self.certificate, ahead)
            if wanted not in self._by_number and now >= self._look_ahead_at:
                self._look_ahead_at = now + tuning.OWN_KEYS_AGAIN_S
                try:
                    async with asyncio.timeout(tuning.OWN_KEYS_WAIT_S):
                        await self._fetch(ahead)
                except (NotProvisioned, TimeoutError) as error:  # the present keys are still valid
                    _log.warning("KC2302 the keys of the next key period: %s", error or "the KMS does not answer")
            self._by_number = {each: held for each, held in self._by_number.items() if each >= number}
            return self._by_number[number]

    async def _fetch(self, moment: int) -> None:
        found = await self._provisioning.key_set(moment)
        self._by_number[found.period_number] = SigningMaterial(found.period_number, found.uid, found.ssk, found.pvt)
