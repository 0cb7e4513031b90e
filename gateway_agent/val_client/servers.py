"""The client's connections to its CMS and its GMSs: long polls over HTTPS, which the client opens.

The client does not listen for the servers, because a gateway at home is behind a router and would need a certificate
that they trust. One request to each server stays open, so news arrive at once. A lost connection is opened anew.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote, urlencode

import aiohttp

from gateway_agent.errors import GatewayError
from gateway_agent.val_client.client import RefreshProfile
from gateway_agent.val_client.server_access import GmsAccess, ServerAccess
from mikey_sakke.errors import MikeyError
from mikey_sakke.group_configuration import (
    BODY_MAX,
    NOTICES_MAX,
    NotifyRequest,
    NotifyResponse,
    UserProfile,
    decode_profile,
    decode_requests,
    encode_response,
)
from mikey_sakke.https import read_capped

_log = logging.getLogger(__name__)

WAIT_S = 25
REQUEST_TIMEOUT_S = 20
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
AUTHORISE_EVERY_S = 6 * 3600
EXPIRY_LOOK_S = 60.0
_RESPONSES = "/gms/v1/responses"
_ANSWER_MAX = BODY_MAX * NOTICES_MAX


class Client(Protocol):
    """The user of the connections: a `ValClient`, or a `BoardUser` that represents one."""

    user: str

    @property
    def profile(self) -> UserProfile | None:
        """The last user profile, None if there is none yet."""
        ...

    def apply_profile(self, profile: UserProfile) -> object:
        """Process a user profile. Raises MikeyError."""
        ...

    async def ready(self) -> None:
        """Return when notices can be processed."""
        ...

    async def take(self, request: NotifyRequest, refresh_profile: RefreshProfile) -> NotifyResponse | None:
        """Process a notice and return the response, None if there is no answer now."""
        ...

    def tick(self) -> None:
        """Do the work that is due from time to time, such as to erase keys that have expired."""
        ...


class ServerFailed(GatewayError):
    """A server does not answer, or refuses."""


class Servers:
    """The connections of one client, open inside of the context."""

    def __init__(
        self,
        client: Client,
        cms: ServerAccess,
        gmss: list[GmsAccess],
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`beside`: a further coroutine function that runs as long as the connections are open.

        Raises ConfigError for an unusable CA file.
        """
        self._client = client
        self._cms = _Server(cms)
        self._gmss = [(access, _Server(access)) for access in gmss]
        self._beside = beside
        self._tasks: list[asyncio.Task[None]] = []
        self._profile_known = asyncio.Event()

    async def __aenter__(self) -> Self:
        works: list[Callable[[], Awaitable[None]]] = [self._follow_profile, self._look_at_expiry]
        works += [partial(self._follow_gms, access, server) for access, server in self._gmss]
        works += [self._beside] if self._beside else []
        self._tasks = [asyncio.create_task(self._lasting(work)) for work in works]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in (self._cms, *(server for _, server in self._gmss)):
            await server.close()

    async def leave(self, gms_uri: str, group: str) -> None:
        """End the user's affiliation to a group. Raises ServerFailed."""
        for access, server in self._gmss:
            if access.gms_uri == gms_uri:
                await server.request("DELETE", f"/gms/v1/groups/{quote(group, safe='')}/affiliation")
                return
        raise ServerFailed(f"There is no GMS {gms_uri}.", "Add it to the configuration.")

    async def respond(self, response: NotifyResponse) -> None:
        """Send a response to all GMSs, as it is not known which one sent the notice.

        Each GMS accepts responses to its own notices only. Failures are logged.
        """
        for access, server in self._gmss:
            try:
                await server.request("POST", _RESPONSES, encode_response(response))
            except ServerFailed as error:
                _log.info("the GMS %s: %s", access.gms_uri, error)

    async def _lasting(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, and log an exception that ends it, so that no connection ends silently."""
        try:
            await work()
        except Exception:
            _log.exception("KC1307 a connection of %s has ended by a fault", self._client.user)
            raise

    async def _follow_profile(self) -> None:
        delay, subscribed = RETRY_FIRST_S, False
        while True:
            try:
                if not subscribed:
                    await self._cms.request("PUT", "/cms/v1/subscription")
                    subscribed = True
                    octets = await self._cms.request("GET", "/cms/v1/profile")
                else:
                    last = self._client.profile
                    octets = await self._cms.poll("/cms/v1/profile", after=last.revision if last else 0)
                if octets:
                    self._apply_profile(octets)
                    self._profile_known.set()
                delay = RETRY_FIRST_S
            except (GatewayError, MikeyError) as error:
                _log.warning("KC1308 the CMS: %s", error)
                subscribed = False
                await asyncio.sleep(delay)
                delay = min(RETRY_MAX_S, 2 * delay)

    async def _refresh_profile(self) -> None:
        try:
            octets = await self._cms.request("GET", "/cms/v1/profile")
            if octets:
                self._apply_profile(octets)
        except (GatewayError, MikeyError) as error:
            _log.warning("KC1309 the CMS: %s", error)  # the profile and the verdict stay the same

    def _apply_profile(self, octets: bytes) -> None:
        last, profile = self._client.profile, decode_profile(octets)
        self._client.apply_profile(profile)
        if last is not None and profile.revision < last.revision:  # the CMS was restored from a backup
            raise ServerFailed(
                f"The CMS has profile {profile.revision} of {profile.user}, where it had {last.revision}.",
                "It is not taken; change the memberships there until it is newer.",
            )

    async def _follow_gms(self, access: GmsAccess, server: "_Server") -> None:
        # The profile must come first, as without it every key would be refused.
        if self._client.profile is None:
            await self._profile_known.wait()
        loop = asyncio.get_running_loop()
        delay, authorised_at = RETRY_FIRST_S, float("-inf")
        while True:
            try:
                await self._client.ready()
                if loop.time() - authorised_at > AUTHORISE_EVERY_S:
                    await self._authorise(access, server)
                    authorised_at = loop.time()
                octets = await server.poll("/gms/v1/notifications")
                for request in decode_requests(octets) if octets else ():
                    response = await self._client.take(request, self._refresh_profile)
                    if response is None:  # the board that should answer is away
                        break
                    await server.request("POST", _RESPONSES, encode_response(response))
                delay = RETRY_FIRST_S
            except (GatewayError, MikeyError) as error:
                _log.warning("KC1310 the GMS %s: %s", access.gms_uri, error)
                authorised_at = float("-inf")
                await asyncio.sleep(delay)
                delay = min(RETRY_MAX_S, 2 * delay)

    async def _authorise(self, access: GmsAccess, server: "_Server") -> None:
        """Request authorisation, then affiliation and subscription for each group (SEAL-GMK-41)."""
        await server.request("POST", "/gms/v1/authorisation")
        for group in access.affiliate:
            path = f"/gms/v1/groups/{quote(group, safe='')}"
            await server.request("PUT", f"{path}/affiliation")
            await server.request("PUT", f"{path}/subscription")

    async def _look_at_expiry(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_LOOK_S)
            try:
                self._client.tick()
            except GatewayError as error:
                _log.warning("KC1311 %s", error)


async def fetch_profile(access: ServerAccess) -> UserProfile:
    """Return the user's profile of this moment. Raises ServerFailed, MikeyError, ConfigError."""
    server = _Server(access)
    try:
        return decode_profile(await server.request("GET", "/cms/v1/profile"))
    finally:
        await server.close()


class _Server:
    """A connection for requests to one server."""

    def __init__(self, access: ServerAccess) -> None:
        self._access = access
        self._tls = access.tls()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def poll(self, path: str, **query: int) -> bytes:
        """Return the body of the answer to a GET that waits for news, empty if there are none. Raises ServerFailed.

        A server that answers at once, as when two clients poll for one user, is asked at most once a second.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        path = f"{path}?{urlencode({**query, 'wait': WAIT_S})}"
        octets = await self.request("GET", path, timeout_s=WAIT_S + REQUEST_TIMEOUT_S)
        if not octets:
            await asyncio.sleep(RETRY_FIRST_S - (loop.time() - begun))
        return octets

    async def request(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> bytes:
        """Return the body of the answer, empty for none. Raises ServerFailed."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        headers = {
            "Authorization": f"Bearer {self._access.token.get_secret_value()}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        try:
            async with self._session.request(
                method,
                f"{self._access.url}{path}",
                data=body,
                headers=headers,
                ssl=self._tls,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                octets = await read_capped(answer.content, _ANSWER_MAX)
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ServerFailed(
                f"{self._access.url} does not answer ({type(error).__name__}).", "It is tried again."
            ) from None
        if len(octets) > _ANSWER_MAX:
            raise ServerFailed(f"{self._access.url} answers more than {_ANSWER_MAX} octets.", "They are not taken.")
        if status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            raise ServerFailed(f"{self._access.url} refuses with {status}{reason(octets)}.", "Ask its operator.")
        return octets


def reason(octets: bytes) -> str:
    """Return ": " and the text in the body of a refusal, cleaned for a log, or "" if there is none.

    `octets` may be anything.
    """
    try:
        text = json.loads(octets)["text"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return ": " + "".join(each for each in str(text)[:160] if each.isprintable())
