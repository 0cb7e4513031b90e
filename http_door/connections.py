"""The connections of one server, from accept to their end: HTTP over TLS, each within the limits of `admission`.

asyncio's own accepting has no limit and, when the machine has no descriptor left, logs as fast as it can; so this
module accepts connections itself. aiohttp's protocol gets a connection that is already counted, and logs nothing
itself.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from http import HTTPStatus
from typing import TypeGuard

from aiohttp import web

from http_door import tls, tuning
from http_door.admission import Admission, Limits, holder
from http_door.listening import HttpListening, sockets, url_of
from http_door.log import DoorLog

# Lines of aiohttp's log may quote a request: it gets a logger that writes nothing.
_SILENT = logging.Logger("silent")
_SILENT.disabled = True

_SOFTWARE = "keycast"


class Connection(web.RequestHandler):
    """One connection; aiohttp's protocol once TLS is agreed on. It is a stranger's until `proved`."""

    def __init__(self, server: web.Server, connections: "Connections", accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=connections.limits.idle_s,
            lingering_time=tuning.REQUEST_TIMEOUT_S,
            logger=_SILENT,
            access_log=_SILENT,
        )
        self._connections = connections
        self._socket = accepted
        self._made: asyncio.Transport | None = None
        self._ended = False
        self.greeting: asyncio.Task[None] | None = None  # while TLS is agreed on
        self._late = loop.call_later(connections.limits.first_request_s, self._is_late)

    def greet(self, context: ssl.SSLContext | None) -> None:
        """Agree on TLS, if there is a context, and begin to read requests."""
        self.greeting = asyncio.get_running_loop().create_task(self._greet(context))

    def proved(self, user: str) -> bool:
        """Note that a request showed a valid token of `user`. Returns False if there is no place for it."""
        stays = self._connections.proved(self, user)
        if stays:
            self._late.cancel()
        return stays

    def answered(self) -> None:
        """Note that the request has its answer."""
        self._connections.admission.answered(self)

    @property
    def is_member(self) -> bool:
        """Return True once a valid token was shown."""
        return self._connections.admission.is_member(self)

    def end(self) -> None:
        """End the connection at once, whatever state it is in."""
        self._ended = True
        self._late.cancel()
        if self._made is not None:
            self._made.abort()
            return
        with contextlib.suppress(OSError):  # the peer has closed it already
            self._socket.shutdown(socket.SHUT_RDWR)  # TLS sees the end of the stream, and cleans up

    # what aiohttp and asyncio call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._made = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._late.cancel()
        self._connections.left(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer octets that are no HTTP, and a fault of the program. aiohttp's own answer would quote the request."""
        if status != HTTPStatus.INTERNAL_SERVER_ERROR:
            self._connections.log.refused("no-http")
        elif exc is not None:
            self._connections.log.broke(exc)
        answer = super().handle_error(request, status, None, HTTPStatus(status).phrase)
        answer.headers["Server"] = _SOFTWARE
        return answer

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log nothing: `handle_error` has logged the fault."""

    async def _greet(self, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            if context is None:
                await loop.connect_accepted_socket(lambda: self, self._socket)
            else:
                await loop.connect_accepted_socket(
                    lambda: self,
                    self._socket,
                    ssl=context,
                    ssl_handshake_timeout=self._connections.limits.first_request_s,
                    ssl_shutdown_timeout=tuning.TLS_SHUTDOWN_S,
                )
        except OSError:  # ssl.SSLError is an OSError
            if not self._ended:
                self._connections.log.ended("no-tls")
        finally:
            self.greeting = None
            if self._made is None:
                self._late.cancel()
                self._connections.left(self)

    def _is_late(self) -> None:
        self._connections.log.ended("late")
        self.end()


class Connections:
    """Listens for one application, and keeps its connections to their limits. `urls` is filled once it listens."""

    def __init__(self, application: web.Application, log: DoorLog, finish_s: float) -> None:
        """Keep the settings. `finish_s` is the seconds that a request under way may still take at the end."""
        application.on_response_prepare.extend([_name_no_version, _part_with_strangers])
        # A long poll ends with its connection, and must not hold up the end of the server.
        self._runner = web.AppRunner(
            application, handle_signals=False, handler_cancellation=True, shutdown_timeout=finish_s
        )
        self._listening: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._paused: asyncio.TimerHandle | None = None
        self._all: set[Connection] = set()
        self.log = log
        self.limits = Limits()
        self.admission: Admission[Connection] = Admission(self.limits)
        self.urls: list[str] = []

    async def open(self, config: HttpListening) -> None:
        """Listen. Raises DoorError."""
        self.limits = config.limits.within(_descriptors(config.limits.connections) - tuning.DESCRIPTORS_KEPT)
        self.admission = Admission(self.limits)
        if config.tls_certificate and config.tls_key:
            self._tls = tls.server_context(config.tls_certificate, config.tls_key)
        self._listening = sockets(config)
        self.urls = [url_of(each, self._tls is not None) for each in self._listening]
        await self._runner.setup()
        self._resume()

    async def close(self) -> None:
        """Stop listening; end requests under way soon, and everything else at once."""
        self._pause()
        for each in self._listening:
            each.close()
        self._listening = []
        for connection in list(self._all):
            if not connection.is_member:
                connection.end()
        await asyncio.gather(*(each.greeting for each in self._all if each.greeting is not None))
        await self._runner.cleanup()

    def proved(self, connection: Connection, user: str) -> bool:
        """Note that `connection` showed a valid token of `user`. Return False if there is no place for it."""
        stays, gone = self.admission.proved(connection, user)
        self._let_go(gone)
        return stays

    def left(self, connection: Connection) -> None:
        """Note that `connection` is over."""
        self.admission.left(connection)
        self._all.discard(connection)

    def _resume(self) -> None:
        self._paused = None
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.add_reader(each, self._accept, each)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.remove_reader(each)
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(tuning.ACCEPTED_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._no_room(error)
                return
            self._take_in(accepted, address[0])

    def _take_in(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        with contextlib.suppress(OSError):  # on systems without this option keep-alive ends dead connections
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, tuning.UNSENT_S * 1000)
        server = self._runner.server
        assert server is not None  # it was made before the first connection
        connection = Connection(server, self, accepted)
        self._all.add(connection)
        self._let_go(self.admission.arrived(connection, holder(address)))
        connection.greet(self._tls)

    def _no_room(self, error: OSError) -> None:
        """Make room and try again in a moment, as the machine has no descriptor or memory for another connection."""
        self.log.ended(f"no room for it on this machine ({error.strerror})")
        self._let_go(self.admission.oldest_stranger())
        self._pause()
        self._paused = asyncio.get_running_loop().call_later(tuning.ACCEPT_PAUSE_S, self._resume)

    def _let_go(self, connection: Connection | None) -> None:
        if connection is not None:
            self.log.ended("displaced")
            connection.end()


def of_server(protocol: object) -> TypeGuard[Connection]:
    """Return True for the protocol of a request that came in through `Connections`."""
    return isinstance(protocol, Connection)


async def _name_no_version(request: web.Request, response: web.StreamResponse) -> None:
    """Do not tell strangers the versions of Python and aiohttp, as aiohttp does."""
    response.headers["Server"] = _SOFTWARE


async def _part_with_strangers(request: web.Request, response: web.StreamResponse) -> None:
    """End the connection of a peer without valid token after its answer."""
    if of_server(request.protocol) and not request.protocol.is_member:
        response.force_close()
        response.headers["Connection"] = "close"  # the other headers are written already


def _descriptors(wanted: int) -> int:
    """Return the file descriptors this process may have, after asking for as many as `wanted` needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + tuning.DESCRIPTORS_KEPT
    if hard != resource.RLIM_INFINITY:
        enough = min(enough, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
        soft = enough
    return enough if soft == resource.RLIM_INFINITY else soft
