"""The answers of a KMS to an authenticated user: its resources, and every reason to refuse. HTTP is in `http`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

from key_servers.https import tokens
from key_servers.kms import tuning
from key_servers.kms.issuer import Issuer, PeriodNotServed
from key_servers.kms.store import KmsStore, KmsUser
from key_servers.rate_limit import HourlyLimit
from mikey_sakke.kms_exchange import CLOCKS_DIFFER_MAX_S, check_version, clocks_differ, moment_of, same_resource
from mikey_sakke.kms_faults import KmsFault, WrongValue
from mikey_sakke.kms_values import (
    Certificate,
    CertificateCache,
    ErrorNumber,
    Init,
    KeyProvision,
    KmsMessage,
    Request,
    Response,
)
from mikey_sakke.kms_xml import decode

Clock = Callable[[], int]  # Unix seconds


class Refusal(Exception):
    """The reason for which a request is refused: HTTP status, ErrorCode and sentence."""

    def __init__(self, status: HTTPStatus, number: ErrorNumber, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.number = number


@dataclass(frozen=True, slots=True)
class KmsPath:
    """The parts of a path below /keymanagement/identity/v1/, percent-decoded: its first word and what follows."""

    name: str
    user_uri: str | None = None
    ntp_time: str | None = None
    number: str | None = None


class KeyService:
    """Answers for one KMS. `clock` returns Unix seconds."""

    def __init__(self, issuer: Issuer, store: KmsStore, clock: Clock, workers: ThreadPoolExecutor) -> None:
        self._issuer = issuer
        self._store = store
        self._clock = clock
        self._workers = workers
        self._limit = HourlyLimit(tuning.REQUESTS_PER_HOUR_MAX)

    @property
    def kms_uri(self) -> str:
        """The unique name of the KMS."""
        return self._issuer.certificate.kms_uri

    async def authenticate(self, authorization: str | None) -> KmsUser | None:
        """Return the user whose token is in an Authorization header, revoked or not; None if there is none."""
        parts = tokens.split(authorization)
        if parts is None:
            return None
        token_id, secret = parts
        found = await self._store.token(token_id)
        if not tokens.fits(secret, found[0] if found else None, self._clock()):
            return None
        return found[1] if found else None

    async def answer(self, user: KmsUser, resource: KmsPath, url: str, body: bytes) -> Response:
        """Return the response to `body` (XML, or nothing) that `user` posted to `url`. Raises Refusal."""
        if user.revoked_at is not None:
            raise Refusal(HTTPStatus.FORBIDDEN, ErrorNumber.USER_REVOKED, "The user is revoked.")
        if not self._limit.take((user.user_uri,), asyncio.get_running_loop().time()):
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                ErrorNumber.TOO_MANY_REQUESTS,
                f"More than {tuning.REQUESTS_PER_HOUR_MAX} requests in an hour.",
            )
        now = self._clock()
        if body:
            url = self._checked(body, user, url, now).client_req_url  # the answer names it as the request did
        certificate = self._issuer.certificate
        if not (certificate.valid_from or 0) <= now <= (certificate.valid_to or now):
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, ErrorNumber.NOT_VALID, "The certificate of the KMS is not valid now."
            )
        message = await self._message(user, resource, now)
        return Response(user.user_uri, self.kms_uri, now, url, message=message)

    def _checked(self, body: bytes, user: KmsUser, url: str, now: int) -> Request:
        try:
            request = decode(body, Request)
            check_version(request.version)
        except KmsFault as fault:
            raise _bad_request(str(fault)) from None
        if request.kms_uri != self.kms_uri:
            raise Refusal(HTTPStatus.BAD_REQUEST, ErrorNumber.WRONG_KMS, f"This is the KMS {self.kms_uri}.")
        if request.user_uri != user.user_uri:
            raise Refusal(HTTPStatus.FORBIDDEN, ErrorNumber.WRONG_USER, "UserUri is not the user of the token.")
        if not same_resource(request.client_req_url, url):
            raise Refusal(HTTPStatus.BAD_REQUEST, ErrorNumber.WRONG_URL, "ClientReqUrl is not where this was posted.")
        if clocks_differ(request.time, now):
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                ErrorNumber.WRONG_TIME,
                f"The clocks differ by more than {CLOCKS_DIFFER_MAX_S} s.",
            )
        return request

    async def _message(self, user: KmsUser, resource: KmsPath, now: int) -> KmsMessage:
        if resource.name == "init":
            return KmsMessage(init=Init(self._issuer.certificate))
        if resource.name == "certcache":
            return KmsMessage(certificate_cache=await self._cache(resource.number))
        if resource.user_uri not in (None, user.user_uri):
            raise Refusal(HTTPStatus.FORBIDDEN, ErrorNumber.WRONG_USER, "The keys of another user.")
        try:
            moment = None if resource.ntp_time is None else moment_of(resource.ntp_time, now)
            number = self._issuer.period_for(now, moment)
        except WrongValue as fault:
            raise _bad_request(str(fault)) from None
        except PeriodNotServed as error:
            raise Refusal(HTTPStatus.FORBIDDEN, ErrorNumber.PERIOD_NOT_SERVED, f"{error}.") from None
        loop = asyncio.get_running_loop()
        key_set = await loop.run_in_executor(self._workers, self._issuer.key_set, user.user_uri, number)
        return KmsMessage(key_provision=KeyProvision((key_set,)))

    async def _cache(self, number: str | None) -> CertificateCache:
        if number is not None and not (number.isascii() and number.isdigit() and len(number) <= 18):
            raise _bad_request("A cache number is an integer from 0.")
        documents, newest = await self._store.certificates(int(number or 0))
        return CertificateCache(tuple(decode(text.encode(), Certificate) for text in documents), newest)


def _bad_request(text: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, ErrorNumber.BAD_REQUEST, text)
