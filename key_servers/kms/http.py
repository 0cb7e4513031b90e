"""The KMS over HTTP: paths, bearer tokens, limits, and refusals as KmsError (TS 33.180 annex D)."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from key_servers.errors import ServerError
from key_servers.kms import tuning
from key_servers.kms.service import Refusal, Resource, Service
from key_servers.kms.store import User
from mikey_sakke.kms_exchange import ROOT_PATH
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_table import TEXT_MAX
from mikey_sakke.kms_values import ErrorNumber, ErrorReport, Response
from mikey_sakke.kms_xml import MEDIA_TYPE, REQUEST_MAX, encode

_log = logging.getLogger(__name__)
_PATHS = (
    "init",
    "keyprov",
    "keyprov/{user_uri}",
    "keyprov/{user_uri}/{ntp_time}",
    "certcache",
    "certcache/{number}",
)


class HttpDoor:
    """The aiohttp application of one Service. `counters` counts what was answered and refused, by name."""

    def __init__(self, service: Service, clock: Callable[[], int], counters: Counter[str]) -> None:
        self._service = service
        self._clock = clock
        self._counters = counters
        self._logged_at = float("-inf")
        self._not_logged = 0
        self.application = web.Application(client_max_size=REQUEST_MAX)
        for path in _PATHS:
            self.application.router.add_post(ROOT_PATH + path, self._handler(path.split("/")[0]))

    def _handler(self, name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            parts = request.match_info
            resource = Resource(name, parts.get("user_uri"), parts.get("ntp_time"), parts.get("number"))
            return await self._answer(request, resource)

        return handle

    async def _answer(self, request: web.Request, resource: Resource) -> web.Response:
        url = str(request.url)
        if len(url) > TEXT_MAX:
            return self._refused("url-too-long", web.Response(status=HTTPStatus.REQUEST_URI_TOO_LONG))
        try:
            user = await self._service.authenticate(request.headers.get("Authorization"))
        except ServerError as error:
            _log.error("%s", error)
            return self._refused("failed", web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE))
        if user is None:
            # Nobody is named to whom a KmsResponse could be addressed.
            challenge = {"WWW-Authenticate": 'Bearer realm="kms", error="invalid_token"'}
            return self._refused("unauthenticated", web.Response(status=HTTPStatus.UNAUTHORIZED, headers=challenge))
        try:
            async with asyncio.timeout(tuning.REQUEST_TIMEOUT_S):
                body = await request.read()
            response = await self._service.answer(user, resource, url, body)
            document = encode(response)
        except TimeoutError:
            return self._refused("slow", web.Response(status=HTTPStatus.REQUEST_TIMEOUT))
        except web.HTTPRequestEntityTooLarge:
            text = f"A request has at most {REQUEST_MAX} octets."
            refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ErrorNumber.BAD_REQUEST, text)
        except Refusal as raised:
            refusal = raised
        except (ServerError, KmsFault) as error:
            _log.error("%s", error)
            refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorNumber.FAILED, "The KMS cannot answer now.")
        else:
            self._counters[resource.name] += 1
            if response.message and response.message.key_provision:
                number = response.message.key_provision.key_sets[0].period_number
                _log.info("keys of %r for key period %d handed out", user.user_uri, number)
            return _xml(HTTPStatus.OK, document)
        return self._refused(refusal.number.name.lower(), self._error(user, url, refusal))

    def _error(self, user: User, url: str, refusal: Refusal) -> web.Response:
        report = ErrorReport(refusal.number, str(refusal))
        response = Response(user.user_uri, self._service.kms_uri, self._clock(), url, error=report)
        return _xml(refusal.status, encode(response))

    def _refused(self, why: str, response: web.Response) -> web.Response:
        """Count, and log at most one line in a while: who may knock at will must not fill the log."""
        self._counters[f"refused.{why}"] += 1
        now = time.monotonic()
        if now - self._logged_at < tuning.REFUSALS_LOGGED_EVERY_S:
            self._not_logged += 1
        else:
            _log.warning("a request was refused: %s (%d more since the last line)", why, self._not_logged)
            self._logged_at, self._not_logged = now, 0
        return response


def _xml(status: HTTPStatus, document: bytes) -> web.Response:
    # Keys must not end up in a cache on the way.
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=document, content_type=MEDIA_TYPE, charset="utf-8", headers=headers)
