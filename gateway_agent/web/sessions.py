"""Who is logged in, and the links that log in once. All of it is in memory: a restart logs everybody out.

A browser holds a random secret in a cookie; here only its hash is kept, so that an image of the memory of one time is
no key for another. A form is only accepted with a text that was made for the cookie of the browser that sends it.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway_agent.web import tuning

_SECRET_OCTETS = 32
_NONCE_DIGITS = 16


@dataclass(eq=False, slots=True)
class PageSession:
    """One log-in. `name` tells sessions apart and is no secret; `ended` is set when it is over."""

    name: str
    mark: int  # of the password that was valid at log-in
    since: float
    used: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class PageSessions:
    """The sessions and links of a page.

    `clock` returns seconds that never go back, `mark` a number that changes with the password.
    """

    def __init__(self, clock: Callable[[], float], mark: Callable[[], int]) -> None:
        self._clock = clock
        self._mark = mark
        self._sessions: dict[str, PageSession] = {}  # by the hash of the secret, the one unused for longest first
        self._links: dict[str, float] = {}  # hash of the token -> its end
        self._form_key = secrets.token_bytes(_SECRET_OCTETS)

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self) -> str:
        """Begin a session and return its secret, for the cookie. The one unused for longest may have to end for it."""
        while len(self._sessions) >= tuning.SESSIONS:
            self._end(next(iter(self._sessions)))
        secret = secrets.token_urlsafe(_SECRET_OCTETS)
        now = self._clock()
        self._sessions[_hash(secret)] = PageSession(secrets.token_hex(8), self._mark(), now, now)
        return secret

    def of(self, secret: str) -> PageSession | None:
        """Return the session of a cookie and note that it is used; None if there is none, or it has ended."""
        key = _hash(secret)
        session = self._sessions.get(key)
        if session is None or not self.is_valid(session):
            if session is not None:
                self._end(key)
            return None
        session.used = self._clock()
        self._sessions[key] = self._sessions.pop(key)
        return session

    def is_valid(self, session: PageSession) -> bool:
        """Return True until a session has ended, is too old or unused, or the password has changed."""
        now = self._clock()
        return (
            not session.ended.is_set()
            and now - session.since < tuning.SESSION_AGE_S
            and now - session.used < tuning.SESSION_IDLE_S
            and session.mark == self._mark()
        )

    def end(self, secret: str) -> None:
        """End the session of a cookie, if there is one."""
        self._end(_hash(secret))

    def new_link(self) -> str:
        """Return the token of a new link, which logs in once."""
        while len(self._links) >= tuning.LINKS:
            del self._links[next(iter(self._links))]
        token = secrets.token_urlsafe(_SECRET_OCTETS)
        self._links[_hash(token)] = self._clock() + tuning.LINK_AGE_S
        return token

    def use_link(self, token: str) -> bool:
        """Return True if `token` is that of a link that is valid; it is not any more from now on."""
        end = self._links.pop(_hash(token), None)
        return end is not None and self._clock() < end

    def form_token(self, cookie: str) -> str:
        """Return the text that a form of a page sent to the browser with this `cookie` must bring back.

        It is another one each time, so that its octets cannot be guessed from the length of compressed pages.
        """
        nonce = secrets.token_hex(_NONCE_DIGITS // 2)
        return nonce + self._of_form(nonce, cookie)

    def accepts_form(self, cookie: str, token: str) -> bool:
        """Return True if `token` was made for this `cookie`."""
        nonce, of_form = token[:_NONCE_DIGITS], token[_NONCE_DIGITS:]
        return hmac.compare_digest(of_form.encode(errors="replace"), self._of_form(nonce, cookie).encode())

    def _of_form(self, nonce: str, cookie: str) -> str:
        said = f"{nonce} {cookie}".encode(errors="replace")
        return hmac.new(self._form_key, said, hashlib.sha256).hexdigest()

    def _end(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.ended.set()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
