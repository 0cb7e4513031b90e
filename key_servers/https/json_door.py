"""The door of GMS and CMS: errors are answered as `{"code": ..., "text": ...}` with their HTTP status."""

from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from key_servers.errors import ServerError, code_of
from key_servers.https import tokens
from key_servers.https.door import Door
from key_servers.https.tokens import StoredToken
from mikey_sakke.errors import MikeyError
from mikey_sakke.group_configuration import BODY_MAX

MEDIA_TYPE = "application/json"

Handler = Callable[[str, web.Request], Awaitable[web.Response]]


class JsonDoor(Door[StoredToken]):
    """A door with JSON errors.

    `token_of(id)` returns a stored token, `clock` Unix seconds; `refusals` maps errors to HTTP statuses.
    """

    def __init__(
        self,
        token_of: Callable[[str], Awaitable[StoredToken | None]],
        clock: Callable[[], int],
        refusals: dict[type[ServerError], HTTPStatus],
        counters: Counter[str],
        realm: str,
    ) -> None:
        async def authenticate(authorization: str | None) -> StoredToken | None:
            parts = tokens.split(authorization)
            if parts is None:
                return None
            stored = await token_of(parts[0])
            return stored if tokens.fits(parts[1], stored, clock()) else None

        super().__init__(authenticate, counters, body_max=BODY_MAX, realm=realm)
        self._refusals = refusals

    def answer(self, method: str, path: str, handler: Handler) -> None:
        """Answer `method` on `path` by `handler(user's URI, request)`, whose errors become JSON."""

        async def handle(token: StoredToken, request: web.Request) -> web.Response:
            try:
                return await handler(token.user_uri, request)
            except MikeyError as error:
                return self._told(HTTPStatus.BAD_REQUEST, error.code, str(error))
            except web.HTTPRequestEntityTooLarge:
                return self._told(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"At most {BODY_MAX} octets.")
            except TimeoutError:
                return self._told(HTTPStatus.REQUEST_TIMEOUT, "slow", "The body did not come.")
            except ServerError as error:
                status = self._refusals.get(type(error))
                if status is None:
                    text = {"code": "failed", "text": "The server cannot answer now."}
                    return self.failed(error, web.json_response(text, status=HTTPStatus.SERVICE_UNAVAILABLE))
                return self._told(status, code_of(error), error.what)

        self.add(method, path, handle)

    def _told(self, status: HTTPStatus, code: str, text: str) -> web.Response:
        return self.refused(code, web.json_response({"code": code, "text": text}, status=status))


def wait_s(request: web.Request, most: float) -> float:
    """Return the seconds of the query `wait`, 0 to `most`; any text that is no number counts as 0."""
    text = request.query.get("wait", "0")
    return min(float(text), most) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def json_body(octets: bytes) -> web.Response:
    """Return an answer with keys in it, which no cache may keep."""
    return web.Response(body=octets, content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})
