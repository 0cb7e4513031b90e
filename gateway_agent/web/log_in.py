"""The log-in of the page: the cookies of browsers, the password, the links, and the tokens of forms."""

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from gateway_agent.web import password
from gateway_agent.web.failures import Failures
from gateway_agent.web.sessions import PageSession, PageSessions
from http_door.admission import holder

FORM_FIELD = "form_token"
FORM_HEADER = "X-Form-Token"
_SECURE_PREFIX = "__Host-"
_ASKED = web.RequestKey("session", tuple)
_NEW_COOKIE = web.RequestKey("new_cookie", str)


class LogIn:
    """Who may see the page whose state is in the folder `state_dir`.

    `port` stands in the names of the cookies, as browsers share the cookies of all servers of a machine.
    """

    def __init__(self, state_dir: Path, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._session_cookie = f"keycast-{port}"
        self._form_cookie = f"keycast-form-{port}"
        self._failures = Failures(clock)
        self._one_at_a_time = asyncio.Lock()  # scrypt takes 32 MiB and all of a processor
        self.sessions = PageSessions(clock, lambda: password.mark(state_dir))

    @property
    def has_password(self) -> bool:
        """Return True if a password is set."""
        return password.mark(self._state_dir) != 0

    def session_of(self, request: web.Request) -> PageSession | None:
        """Return the session that the cookie of a request belongs to."""
        if _ASKED not in request:
            cookie = self._cookie(request, self._session_cookie)
            request[_ASKED] = (self.sessions.of(cookie) if cookie else None,)
        found: PageSession | None = request[_ASKED][0]
        return found

    def form_token(self, request: web.Request) -> str:
        """Return the token of a form on the page that answers `request`."""
        return self.sessions.form_token(self._binding(request))

    def accepts_form(self, request: web.Request, token: str) -> bool:
        """Return True if `token` is that of a form which was sent to the browser of `request` in its session."""
        cookie = self._cookie(request, self._session_cookie if self.session_of(request) else self._form_cookie)
        return bool(cookie) and self.sessions.accepts_form(cookie, token)

    async def try_password(self, address: str, text: str) -> float | None:
        """Return None if `text` is the password, else the seconds until this address may try again, mostly 0.0.

        A password that comes too early is not looked at. Raises PasswordUnusable.
        """
        address = holder(address)
        wait = self._failures.wait_s(address)
        if wait > 0:
            return wait
        self._failures.begun(address)
        async with self._one_at_a_time:
            right = await asyncio.to_thread(password.fits, self._state_dir, text)
        if not right:
            return self._failures.wait_s(address)
        self._failures.succeeded(address)
        return None

    def begin(self, request: web.Request, response: web.StreamResponse) -> None:
        """Begin a session for the browser of `request`; `response` brings the cookie."""
        self._leave(request)
        secure = request.secure or request.headers.get("Origin", "").startswith("https://")
        self._set(response, self._session_cookie, self.sessions.begin(), secure)

    def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session of the browser of `request`; `response` takes the cookie back."""
        self._leave(request)
        for name, secure in ((_SECURE_PREFIX + self._session_cookie, True), (self._session_cookie, False)):
            if name in request.cookies:
                response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")

    def set_form_cookie(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the cookie to which the token of a form is bound, if one was made for this answer."""
        if _NEW_COOKIE in request:
            self._set(response, self._form_cookie, request[_NEW_COOKIE], request.secure)

    def _binding(self, request: web.Request) -> str:
        name = self._session_cookie if self.session_of(request) else self._form_cookie
        cookie = self._cookie(request, name)
        if cookie:
            return cookie
        if _NEW_COOKIE not in request:
            request[_NEW_COOKIE] = secrets.token_urlsafe(16)
        return request[_NEW_COOKIE]

    def _leave(self, request: web.Request) -> None:
        cookie = self._cookie(request, self._session_cookie)
        if cookie:
            self.sessions.end(cookie)

    def _cookie(self, request: web.Request, name: str) -> str:
        return request.cookies.get(_SECURE_PREFIX + name) or request.cookies.get(name, "")

    def _set(self, response: web.StreamResponse, name: str, value: str, secure: bool) -> None:
        name = _SECURE_PREFIX + name if secure else name
        response.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="Strict")


LOG_IN = web.AppKey("LOG_IN", LogIn)


def is_on_this_machine(request: web.Request) -> bool:
    """Return True if a request came in from this machine, so that nobody on the network could read it."""
    try:
        return ipaddress.ip_address((request.remote or "").partition("%")[0]).is_loopback
    except ValueError:
        return False


def asked_by_page(request: web.Request) -> str:
    """Return who asks for a command, for lists of what was done: the page, and from which address."""
    return f"page ({request.remote})"
