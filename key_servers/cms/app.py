"""A CMS put together, and its HTTPS side.

| Request | Meaning |
|---|---|
| PUT /cms/v1/subscription | subscribe to changes of the user's profile |
| GET /cms/v1/profile | the user's profile |
| GET /cms/v1/profile?after=REVISION&wait=25 | the user's profile once its revision is another; 204: it did not change |
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Self

from aiohttp import web

from key_servers.cms.operator import STORE_FILE
from key_servers.cms.profiles import LONG_POLL_MAX_S, NotSubscribed, Profiles
from key_servers.errors import NotPossible
from key_servers.https.json_door import JsonDoor, json_body, wait_s
from key_servers.https.listening import Listening
from key_servers.sql import Database, migrate, open_database
from mikey_sakke.group_configuration import UserProfile, encode_profile

_log = logging.getLogger(__name__)

ROOT_PATH = "/cms/v1/"


class CmsConfig(Listening):
    """The settings of a CMS."""


class CmsServer:
    """One configuration management server. `profiles` is the operator's side."""

    def __init__(self, database: Database, profiles: Profiles, door: JsonDoor, counters: Counter[str]) -> None:
        """Keep the parts; only `open` calls this."""
        self._database = database
        self._door = door
        self.profiles = profiles
        self.counters = counters

    @classmethod
    async def open(cls, config: CmsConfig, *, clock: Callable[[], int] | None = None) -> Self:
        """Open the store and listen. `clock` returns Unix seconds. Raise ServerError."""
        clock = clock or (lambda: int(time.time()))
        database = await open_database(config.database_url, config.state_dir / STORE_FILE)
        counters: Counter[str] = Counter()
        try:
            await migrate(database, "key_servers.cms.migrations")
            profiles = Profiles(database, clock)
            door = _door(profiles, clock, counters)
            await door.open(config)
        except BaseException:
            await database.close()
            raise
        return cls(database, profiles, door, counters)

    @property
    def urls(self) -> list[str]:
        """The URLs at which the CMS can be reached."""
        return self._door.urls

    async def close(self) -> None:
        """Stop listening, close the store."""
        await self._door.close()
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _given(profile: UserProfile) -> web.Response:
    _log.info("revision %d of the profile of %s handed out", profile.revision, profile.user)
    return json_body(encode_profile(profile))


def _door(profiles: Profiles, clock: Callable[[], int], counters: Counter[str]) -> JsonDoor:
    refusals = {NotPossible: HTTPStatus.NOT_FOUND, NotSubscribed: HTTPStatus.FORBIDDEN}
    made = JsonDoor(profiles.token, clock, refusals, counters, "cms")

    async def subscribe(user: str, request: web.Request) -> web.Response:
        await profiles.subscribe(user)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def profile(user: str, request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        if not after:
            return _given(await profiles.profile(user))
        revision = int(after) if after.isascii() and after.isdigit() and len(after) < 17 else 0
        found = await profiles.profile_after(user, revision, wait_s(request, LONG_POLL_MAX_S))
        return _given(found) if found else web.Response(status=HTTPStatus.NO_CONTENT)

    made.answer("PUT", f"{ROOT_PATH}subscription", subscribe)
    made.answer("GET", f"{ROOT_PATH}profile", profile)
    return made
