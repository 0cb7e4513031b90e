"""The door of one HTTP server: bearer tokens, bodies and refusals, which all its resources have in common.

A peer without a valid token gets the status 401 and nothing else, once a connection (SEC-35).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Generic, Protocol, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from http_door import tuning
from http_door.connections import Connections, of_server
from http_door.errors import DoorError
from http_door.log import DoorLog
from key_servers.errors import ServerError
from key_servers.https.listening import Listening


class KnownUser(Protocol):
    """The user whose valid token a request showed."""

    @property
    def user_uri(self) -> str:
        """The identity of the user."""
        ...


U = TypeVar("U", bound=KnownUser)


class Door(Generic[U]):
    """One aiohttp application. `authenticate` returns the user of an Authorization header, None if there is none.

    `counters` counts refusals under `counted_as` and the reason, `log.connections` the ends of connections. `realm`
    stands in the challenge. `finish_s` is the seconds that a request under way may still take at the end. `middlewares`
    are those of aiohttp.
    """

    def __init__(
        self,
        authenticate: Callable[[str | None], Awaitable[U | None]],
        counters: Counter[str],
        *,
        body_max: int,
        realm: str,
        finish_s: float = 0.5,
        counted_as: str = "refused",
        middlewares: Iterable[Middleware] = (),
    ) -> None:
        self._authenticate = authenticate
        self._challenge = f'Bearer realm="{realm}", error="invalid_token"'
        self._application = web.Application(client_max_size=body_max, middlewares=middlewares)
        self.log = DoorLog(counters, counted_as)
        self._connections = Connections(self._application, self.log, finish_s)

    def add(self, method: str, path: str, handler: Callable[[U, web.Request], Awaitable[web.Response]]) -> None:
        """Answer `method` on `path` by `handler(user, request)`."""

        async def handle(request: web.Request) -> web.Response:
            try:
                user = await self._authenticate(request.headers.get("Authorization"))
            except ServerError as error:
                return self.failed(error, self.bare(HTTPStatus.SERVICE_UNAVAILABLE))
            if user is None:
                challenge = self.bare(HTTPStatus.UNAUTHORIZED)
                challenge.headers["WWW-Authenticate"] = self._challenge
                challenge.force_close()
                return self.refused("unauthenticated", challenge)
            connection = request.protocol
            if not of_server(connection):
                return await handler(user, request)
            if not connection.proved(user.user_uri):
                later = self.bare(HTTPStatus.SERVICE_UNAVAILABLE)
                later.headers["Retry-After"] = "5"
                return self.refused("full", later)
            try:
                return await handler(user, request)
            finally:
                connection.answered()

        self._application.router.add_route(method, path, handle)

    @property
    def urls(self) -> list[str]:
        """The URLs at which the server can be reached."""
        return self._connections.urls

    async def open(self, config: Listening) -> None:
        """Listen. Raises DoorError."""
        try:
            await self._connections.open(config)
        except DoorError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening."""
        await self._connections.close()

    def bare(self, status: HTTPStatus) -> web.Response:
        """Return the answer to a request that reached no handler: its status alone."""
        return web.Response(status=status)

    def refused(self, why: str, response: web.Response) -> web.Response:
        """Count and log a refusal; return `response`."""
        self.log.refused(why)
        return response

    def failed(self, error: Exception, response: web.Response) -> web.Response:
        """Count and log that the server failed, with the sentence of `error`; return `response`."""
        self.log.failed(str(error))
        return response


async def body(request: web.Request) -> bytes:
    """Return the body of a request. Raises TimeoutError, HTTPRequestEntityTooLarge."""
    async with asyncio.timeout(tuning.REQUEST_TIMEOUT_S):
        return await request.read()
