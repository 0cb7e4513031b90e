"""The KMS over HTTP: paths, bearer tokens, limits, and refusals as KmsError (TS 33.180 annex D)."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from key_servers.errors import ServerError
from key_servers.https.door import Door, body
from key_servers.kms import tuning
from key_servers.kms.service import KeyService, KmsPath, Refusal
from key_servers.kms.store import KmsUser
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


def door(service: KeyService, clock: Callable[[], int], counters: Counter[str]) -> Door[KmsUser]:
    """Return the door of a KMS, not yet open. `counters` counts by name what was answered and refused."""
    made = Door(service.authenticate, counters, body_max=REQUEST_MAX, realm="kms", finish_s=tuning.FINISH_S)
    answers = _Answers(service, clock, counters, made)
    for path in _PATHS:
        made.add("POST", ROOT_PATH + path, answers.handler(path.split("/")[0]))
    return made


class _Answers:
    def __init__(
        self, service: KeyService, clock: Callable[[], int], counters: Counter[str], made: Door[KmsUser]
    ) -> None:
        self._service = service
        self._clock = clock
        self._counters = counters
        self._door = made

    def handler(self, name: str) -> Callable[[KmsUser, web.Request], Awaitable[web.Response]]:
        async def handle(user: KmsUser, request: web.Request) -> web.Response:
            parts = request.match_info
            resource = KmsPath(name, parts.get("user_uri"), parts.get("ntp_time"), parts.get("number"))
            return await self._answer(user, request, resource)

        return handle

    async def _answer(self, user: KmsUser, request: web.Request, resource: KmsPath) -> web.Response:
        url = str(request.url)
        if len(url) > TEXT_MAX:
            return self._door.refused("url-too-long", web.Response(status=HTTPStatus.REQUEST_URI_TOO_LONG))
        try:
            response = await self._service.answer(user, resource, url, await body(request))
            document = encode(response)
        except TimeoutError:
            return self._door.refused("slow", web.Response(status=HTTPStatus.REQUEST_TIMEOUT))
        except web.HTTPRequestEntityTooLarge:
            text = f"A request has at most {REQUEST_MAX} octets."
            too_large = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ErrorNumber.BAD_REQUEST, text)
            return self._refused(user, url, too_large)
        except Refusal as refusal:
            return self._refused(user, url, refusal)
        except (ServerError, KmsFault) as error:
            broken = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorNumber.FAILED, "The KMS cannot answer now.")
            return self._door.failed(error, self._error(user, url, broken))
        self._counters[resource.name] += 1
        if response.message and response.message.key_provision:
            number = response.message.key_provision.key_sets[0].period_number
            _log.info("keys of %r for key period %d handed out", user.user_uri, number)
        return _xml(HTTPStatus.OK, document)

    def _refused(self, user: KmsUser, url: str, refusal: Refusal) -> web.Response:
        return self._door.refused(refusal.number.name.lower(), self._error(user, url, refusal))

    def _error(self, user: KmsUser, url: str, refusal: Refusal) -> web.Response:
        report = ErrorReport(refusal.number, str(refusal))
        response = Response(user.user_uri, self._service.kms_uri, self._clock(), url, error=report)
        return _xml(refusal.status, encode(response))


def _xml(status: HTTPStatus, document: bytes) -> web.Response:
    # Keys must not end up in a cache on the way.
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=document, content_type=MEDIA_TYPE, charset="utf-8", headers=headers)
