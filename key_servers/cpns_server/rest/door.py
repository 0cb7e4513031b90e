"""The HTTP door of the REST interface: who asks, whether the token's scope and rate allow it, and errors as JSON.

Every error is answered as `{"code": ..., "text": ...}` with its HTTP status: a word for programs and a sentence.
"""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from cpns.errors import CpnsError, MalformedMessage, NotMember, Unknown
from key_servers.cpns_server.operators.access import OperatorTokens, Scope
from key_servers.cpns_server.operators.desk import UnfinishedRequest
from key_servers.cpns_server.rest.rates import RequestRates
from key_servers.errors import ServerError, code_of
from key_servers.https import tokens
from key_servers.https.door import Door
from message_plane.errors import PlaneError, RegistrationRefused

BODY_MAX = 256 * 1024  # room for the longest list of names
RETRY_AFTER_S = 5  # after a failure of the database

REFUSALS: dict[type[Exception], HTTPStatus] = {
    MalformedMessage: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unknown: HTTPStatus.NOT_FOUND,
    NotMember: HTTPStatus.NOT_FOUND,
    CpnsError: HTTPStatus.CONFLICT,
    RegistrationRefused: HTTPStatus.CONFLICT,
    UnfinishedRequest: HTTPStatus.CONFLICT,
    ServerError: HTTPStatus.SERVICE_UNAVAILABLE,
    PlaneError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of each kind of refusal: that of the nearest class."""

_BARE = {
    HTTPStatus.UNAUTHORIZED: (
        "not-authorised",
        "The token is missing, wrong, revoked, or its time is over. The valid ones: keycast server token list, there.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: ("failed", "The Server cannot answer now."),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("fault", "The Server has met a fault of its own: its log says where."),
    HTTPStatus.NOT_FOUND: ("no-resource", "There is no such resource."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("no-method", "The resource has no such method."),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The operator whose valid token a request showed."""

    user_uri: str
    token_id: str
    scope: Scope


class BadRequest(Exception):
    """A request is not what the document says. `status` and `code` are what its sender is told."""

    def __init__(self, status: HTTPStatus, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class RestDoor(Door[Caller]):
    """The door. `clock` returns Unix seconds; `rates` says how often each token may ask."""

    def __init__(
        self, known: OperatorTokens, clock: Callable[[], int], rates: RequestRates, counters: Counter[str]
    ) -> None:
        async def authenticate(authorization: str | None) -> Caller | None:
            parts = tokens.split(authorization)
            found = None if parts is None else known.find(parts[0])
            if parts is None or not tokens.fits(parts[1], None if found is None else found[0], clock()):
                return None
            assert found is not None  # it fits
            return Caller(found[0].user_uri, parts[0], found[1])

        super().__init__(
            authenticate,
            counters,
            body_max=BODY_MAX,
            realm="cpns",
            counted_as="rest_refused",
            middlewares=[self._in_json],
        )
        self._rates = rates

    def answer(
        self,
        method: str,
        path: str,
        scope: Scope,
        handler: Callable[[Caller, web.Request], Awaitable[web.Response]],
        forbidden: Callable[[Caller, web.Request], None],
    ) -> None:
        """Answer `method` on `path` by `handler(caller, request)` where the caller's token includes `scope`.

        `forbidden` is called with requests that the scope does not allow.
        """

        async def handle(caller: Caller, request: web.Request) -> web.Response:
            wait_s = self._rates.wait_s(caller.token_id, scope, time.monotonic())
            if wait_s:
                later = self._told(HTTPStatus.TOO_MANY_REQUESTS, "too-many", "This token has made too many requests.")
                later.headers["Retry-After"] = str(math.ceil(wait_s))
                return later
            try:
                if not caller.scope.includes(scope):
                    forbidden(caller, request)
                    text = f"This needs a token of scope {scope}; this one has {caller.scope}."
                    return self._told(HTTPStatus.FORBIDDEN, "not-permitted", text)
                return await handler(caller, request)
            except BadRequest as error:
                return self._told(error.status, error.code, str(error))
            except web.HTTPRequestEntityTooLarge:
                return self._told(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"At most {BODY_MAX} octets.")
            except TimeoutError:
                return self._told(HTTPStatus.REQUEST_TIMEOUT, "slow", "The body did not come.")
            except (CpnsError, ServerError, PlaneError) as error:
                return self._refusal(error)

        self.add(method, path, handle)

    def bare(self, status: HTTPStatus) -> web.Response:
        """Return the answer to a request that reached no handler, as JSON."""
        code, text = _BARE[status]
        return web.json_response({"code": code, "text": text}, status=status)

    @web.middleware
    async def _in_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            answer = self.bare(HTTPStatus(error.status))
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return self.refused(_BARE[HTTPStatus(error.status)][0], answer)
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - the log gets its place in the code
            self.log.broke(error)
            return self.bare(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _refusal(self, error: Exception) -> web.Response:
        status = next(REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS)
        if status is not HTTPStatus.SERVICE_UNAVAILABLE:
            return self._told(status, code_of(error), str(error))
        told = {"code": code_of(error), "text": "The Server cannot do it now. Try again later."}
        return self.failed(error, web.json_response(told, status=status, headers={"Retry-After": str(RETRY_AFTER_S)}))

    def _told(self, status: HTTPStatus, code: str, text: str) -> web.Response:
        return self.refused(code, web.json_response({"code": code, "text": text}, status=status))
