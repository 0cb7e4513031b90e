"""The HTTP side that GMS and CMS share: bearer tokens, limits, refusals as JSON, one listener with TLS.

A refusal is `{"code": ..., "text": ...}` with its status; who is not known learns nothing but 401.
"""

import asyncio
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from key_servers.errors import ServerError
from key_servers.kms import tls, tokens
from key_servers.kms.tokens import StoredToken
from mikey_sakke.errors import MikeyError
from mikey_sakke.group_configuration import BODY_MAX

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 20
REFUSALS_LOGGED_EVERY_S = 10.0
MEDIA_TYPE = "application/json"

Handler = Callable[[str, web.Request], Awaitable[web.Response]]


class Listening(BaseModel):
    """Where a server keeps its things and listens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(description="folder of the store")
    listen: list[str] = Field(["127.0.0.1"], min_length=1, description="IP addresses to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="TCP port, 0 = any free one")
    tls_certificate: Path | None = Field(None, description="PEM file; none: plain HTTP, only on loopback")
    tls_key: Path | None = Field(None, description="PEM file of mode 0600")
    database: SecretStr | None = Field(None, description="postgresql://...; none: SQLite in state_dir")

    @model_validator(mode="after")
    def _plain_only_on_loopback(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        for host in self.listen:
            if self.tls_certificate is None and not ipaddress.ip_address(host).is_loopback:
                raise ValueError("without TLS only loopback addresses can be listened on: set tls_certificate, tls_key")
        return self


class ListenFailed(ServerError):
    """The server cannot listen where it should."""


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
        context = None
        if config.tls_certificate and config.tls_key:
            context = tls.server_context(config.tls_certificate, config.tls_key)
        # A long poll ends with its connection, and must not hold up the end of the server.
        self._runner = web.AppRunner(
            self._application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=0.5,
        )
        await self._runner.setup()
        for host in config.listen:
            site = web.TCPSite(self._runner, host, config.port, ssl_context=context, backlog=1024)
            try:
                await site.start()
            except OSError as error:
                raise ListenFailed(
                    f"Cannot listen on {host}, port {config.port}: {error.strerror}.", "Choose another port or address."
                ) from None
        scheme = "https" if context else "http"
        for host, port, *_ in self._runner.addresses:
            self.urls.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")

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
