"""The HTTP side that GMS and CMS share: bearer tokens, limits, refusals as JSON, one listener with TLS.

A refusal is `{"code": ..., "text": ...}` with its status; who is not known learns nothing but 401.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from key_servers.errors import ServerError
from key_servers.kms import tokens
from key_servers.kms.tokens import StoredToken
from key_servers.listening import Listening, listen
from mikey_sakke.errors import MikeyError
from mikey_sakke.group_configuration import BODY_MAX

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 20
REFUSALS_LOGGED_EVERY_S = 10.0
MEDIA_TYPE = "application/json"

Handler = Callable[[str, web.Request], Awaitable[web.Response]]


class Door:
    """One aiohttp application. `token_of(id)` gives a stored token; `refusals` maps errors to HTTP statuses."""

    def __init__(
        self,
        token_of: Callable[[str], Awaitable[StoredToken | None]],
        clock: Callable[[], int],
        refusals: dict[type[ServerError], HTTPStatus],
        counters: Counter[str],
    ) -> None:
        self._token_of = token_of
        self._clock = clock
        self._refusals = refusals
        self._counters = counters
        self._logged_at = float("-inf")
        self._application = web.Application(client_max_size=BODY_MAX)
        self._runner: web.AppRunner | None = None
        self.urls: list[str] = []

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Answer `method` on `path` by `handler(user, request)`."""

        async def handle(request: web.Request) -> web.Response:
            return await self._answer(handler, request)

        self._application.router.add_route(method, path, handle)

    async def open(self, config: Listening) -> None:
        """Listen. Raises ServerError."""
        # A long poll ends with its connection, and must not hold up the end of the server.
        self._runner = web.AppRunner(
            self._application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=0.5,
        )
        try:
            self.urls = await listen(self._runner, config)
        except ServerError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, handler: Handler, request: web.Request) -> web.Response:
        try:
            user = await self._authenticated(request.headers.get("Authorization"))
            if user is None:
                self._refused("unauthenticated")
                challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                return web.Response(status=HTTPStatus.UNAUTHORIZED, headers=challenge)
            return await handler(user, request)
        except MikeyError as error:
            return self._refusal(HTTPStatus.BAD_REQUEST, error.code, str(error))
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"At most {BODY_MAX} octets.")
        except TimeoutError:
            return self._refusal(HTTPStatus.REQUEST_TIMEOUT, "slow", "The body did not come.")
        except ServerError as error:
            status = self._refusals.get(type(error))
            if status is None:
                _log.error("%s", error)
                return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "failed", "The server cannot answer now.")
            return self._refusal(status, _code(error), error.what)

    async def _authenticated(self, authorization: str | None) -> str | None:
        parts = tokens.split(authorization)
        if parts is None:
            return None
        stored = await self._token_of(parts[0])
        return stored.user_uri if tokens.fits(parts[1], stored, self._clock()) and stored is not None else None

    def _refusal(self, status: HTTPStatus, code: str, text: str) -> web.Response:
        self._refused(code)
        return web.json_response({"code": code, "text": text}, status=status)

    def _refused(self, why: str) -> None:
        """Count, and log at most one line in a while: who may knock at will must not fill the log."""
        self._counters[f"refused.{why}"] += 1
        now = time.monotonic()
        if now - self._logged_at >= REFUSALS_LOGGED_EVERY_S:
            self._logged_at = now
            _log.warning("a request was refused: %s", why)


async def body(request: web.Request) -> bytes:
    """The body of a request. Raises TimeoutError, HTTPRequestEntityTooLarge."""
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        return await request.read()


def wait_s(request: web.Request, most: float) -> float:
    """The seconds of the query `wait`, 0 to `most`; what is no number counts as 0."""
    text = request.query.get("wait", "0")
    return min(float(text), most) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def json_body(octets: bytes) -> web.Response:
    """An answer with keys in it: no cache may keep it."""
    return web.Response(body=octets, content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


def _code(error: ServerError) -> str:
    name = type(error).__name__
    return "".join(f"-{each.lower()}" if each.isupper() else each for each in name).lstrip("-")
