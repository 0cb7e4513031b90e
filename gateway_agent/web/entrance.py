"""The two doors of the page: log-in by password or link, and log-out."""

import math
from http import HTTPStatus

from aiohttp import web

from gateway_agent.web.addresses import LOG_IN as LOG_IN_PATH
from gateway_agent.web.log_in import LOG_IN
from gateway_agent.web.render import render, see_other

_COMMAND = "keycast web link"


async def show(request: web.Request) -> web.Response:
    """Ask for the password or, with the token of a link in the URL, for one click.

    A link does nothing before that: programs that look at URLs in messages would use it up.
    """
    if request.app[LOG_IN].session_of(request) is not None:
        see_other("/")
    return await _page(request, token=request.query.get("token", ""))


async def submit(request: web.Request) -> web.StreamResponse:
    """Begin a session if the password or the token of a link is right."""
    log_in = request.app[LOG_IN]
    fields = await request.post()
    token, text = str(fields.get("token", "")), str(fields.get("password", ""))
    if token:
        if not log_in.sessions.use_link(token):
            problem = f"This link was used already, or is too old. On the gateway a new one is made by: {_COMMAND}"
            return await _page(request, problem=problem, status=HTTPStatus.FORBIDDEN)
    else:
        wait = await log_in.try_password(request.remote or "", text)
        if wait:
            return await _too_many(request, wait)
        if wait is not None:
            return await _page(request, problem="That is not the password.", status=HTTPStatus.FORBIDDEN)
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
    log_in.begin(request, response)
    return response


async def leave(request: web.Request) -> web.StreamResponse:
    """End the session."""
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": LOG_IN_PATH})
    request.app[LOG_IN].end(request, response)
    return response


async def _too_many(request: web.Request, wait: float) -> web.Response:
    seconds = math.ceil(wait)
    problem = f"Too many wrong passwords. Try again in {seconds} s, or make a link on the gateway: {_COMMAND}"
    response = await _page(request, problem=problem, status=HTTPStatus.TOO_MANY_REQUESTS)
    response.headers["Retry-After"] = str(seconds)
    return response


async def _page(
    request: web.Request, *, token: str = "", problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    has_password = request.app[LOG_IN].has_password
    return await render(
        request, "log_in.html", status=status, token=token, problem=problem, has_password=has_password, command=_COMMAND
    )
