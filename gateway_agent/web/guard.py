"""What every request passes before a page sees it, and what every answer takes along.

A request must mean this page (Host), come from somebody who is logged in, and, if it is a form, from a page of ours in
the same session. An answer tells the browser to load nothing from elsewhere and to show nothing inside other sites.
"""

import asyncio
from collections.abc import Collection
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from cpns.errors import CpnsError
from gateway_agent.errors import GatewayError
from gateway_agent.web import addresses, hosts
from gateway_agent.web.log_in import FORM_FIELD, FORM_HEADER, LOG_IN
from gateway_agent.web.render import render
from http_door import tuning as door_tuning
from http_door.connections import of_server
from http_door.log import DoorLog
from message_plane.errors import PlaneError

STATIC_PATH = "/static/"
WITHOUT_LOG_IN = (STATIC_PATH, "/health/", "/metrics")
FOR_PROGRAMS = ("/api/", "/live", "/health/", "/metrics", STATIC_PATH)
_FORM = "application/x-www-form-urlencoded"

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # with no-referrer a form of ours would come without its origin
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add to an answer what keeps the browser to this page, and caches away from what has data in it."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


def only_ours(names: Collection[str], log: DoorLog, for_all: tuple[str, ...]) -> Middleware:
    """Return the middleware that refuses requests meant for another name than `names`, but for the paths `for_all`."""

    @web.middleware
    async def examine(request: web.Request, handler: Handler) -> web.StreamResponse:
        said = request.headers.getall("Host", [])
        own = request.transport.get_extra_info("sockname") if request.transport else None
        is_ours = len(said) == 1 and hosts.is_ours(said[0], own[0] if own else "", names)
        if is_ours or request.path.startswith(for_all):
            return await handler(request)
        log.refused("host")
        text = "This page is not known under that name. Open it by its address, or add the name to hosts under [web].\n"
        return web.Response(status=HTTPStatus.MISDIRECTED_REQUEST, text=text)

    return examine


def errors_in_words(log: DoorLog) -> Middleware:
    """Return the middleware that turns the errors of pages into pages."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            status, text = HTTPStatus(error.status), _WORDS.get(error.status, error.reason)
        except TimeoutError:
            status, text = HTTPStatus.REQUEST_TIMEOUT, "The form did not come in time."
        except (GatewayError, CpnsError, PlaneError) as error:
            status, text = HTTPStatus.CONFLICT, str(error)
        except Exception as error:  # the person gets the sentence, the log the place in the code
            if request.writer.output_size:  # the answer has begun
                raise
            log.broke(error)
            return await _told(request, HTTPStatus.INTERNAL_SERVER_ERROR, _FAULT)
        if status != HTTPStatus.CONFLICT:
            log.refused(status.phrase.lower().replace(" ", "-"))
        return await _told(request, status, text)

    return answer


def only_logged_in(log: DoorLog) -> Middleware:
    """Return the middleware that keeps out strangers, and forms that are not of this session.

    A connection with a session keeps its place, however many strangers come (SEC-35).
    """

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(WITHOUT_LOG_IN):
            return await handler(request)
        log_in = request.app[LOG_IN]
        session = log_in.session_of(request)
        if session is None and request.path != addresses.LOG_IN:
            return _to_log_in(request)
        connection = request.protocol
        held = session is not None and of_server(connection)
        if session is not None and of_server(connection) and not connection.proved(session.name):
            raise web.HTTPServiceUnavailable
        try:
            if request.method not in ("GET", "HEAD"):
                await _examine_form(request)
            response = await handler(request)
        finally:
            if held and of_server(connection):
                connection.answered()
        if not response.prepared:
            log_in.set_form_cookie(request, response)
        return response

    return let_in


async def _examine_form(request: web.Request) -> None:
    """Raise HTTPForbidden unless a form comes from a page of ours in this session, which nobody else can have made."""
    headers = request.headers
    if not hosts.is_same_origin(headers.get("Origin"), headers.get("Sec-Fetch-Site"), headers.get("Host", "")):
        raise web.HTTPForbidden
    # A browser sends forms of ours in UTF-8 and as they are; octets in another way are not even read.
    in_utf8 = (request.charset or "utf-8").lower() == "utf-8"
    if request.content_type != _FORM or not in_utf8 or "Content-Encoding" in headers:
        raise web.HTTPUnsupportedMediaType
    async with asyncio.timeout(door_tuning.REQUEST_TIMEOUT_S):
        try:
            fields = await request.post()
        except ValueError:  # octets that are not UTF-8
            raise web.HTTPBadRequest from None
    token = headers.get(FORM_HEADER) or str(fields.get(FORM_FIELD, ""))
    if not request.app[LOG_IN].accepts_form(request, token):
        raise web.HTTPForbidden


def _to_log_in(request: web.Request) -> web.Response:
    if request.path.startswith(FOR_PROGRAMS):
        answer = {"code": "not-logged-in", "text": f"Log in at {addresses.LOG_IN} first."}
        return web.json_response(answer, status=HTTPStatus.UNAUTHORIZED)
    if "HX-Request" in request.headers:  # htmx would put the page of the log-in into a part of this one
        return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": addresses.LOG_IN})
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": addresses.LOG_IN})


async def _told(request: web.Request, status: HTTPStatus, text: str) -> web.Response:
    if request.path.startswith(FOR_PROGRAMS):
        code = status.phrase.lower().replace(" ", "-")
        return web.json_response({"code": code, "text": text}, status=status)
    return await render(request, "error.html", status=status, title=status.phrase, text=text)


_FAULT = "This is a fault of keycast. Its log says where in the code, without what you have sent: keycast log show"
_WORDS: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "No form of this page sends that. Go back, load the page again, and send it once more.",
    HTTPStatus.FORBIDDEN: "This form is not of the page that you have open now, or of another log-in. Go back, load "
    "the page again, and send it once more.",
    HTTPStatus.NOT_FOUND: "There is no such page, or what it was about is gone.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This page can be read and its forms sent, and nothing else.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "No form of this page comes in that form.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "That is more than a form of this page can hold.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many connections are open at once. Close some tabs, and try again.",
}
