"""Listens for an application, and tries again while it cannot: no fault of the page keeps the gateway from its keys."""

import asyncio
import logging
from collections.abc import Collection, Mapping

from aiohttp import web

from gateway_agent.control import Command
from gateway_agent.core import alarms
from gateway_agent.observe.sight import Sight
from gateway_agent.web import addresses, tuning
from gateway_agent.web.application import LOG
from http_door.connections import Connections
from http_door.errors import DoorError
from http_door.listening import HttpListening

_log = logging.getLogger(__name__)


class Listener:
    """One HTTP server. While it cannot listen, the alarm `page` says why, and which line of the file to change."""

    def __init__(
        self,
        settings: HttpListening,
        application: web.Application,
        sight: Sight,
        section: str = "web",
        names: Collection[str] = (),
    ) -> None:
        """`section`: the name of the section of the configuration that `settings` are from.

        `names`: further host names of this machine, for the log.
        """
        self._settings = settings
        self._sight = sight
        self._section = section
        self._names = names
        self._connections = Connections(application, application[LOG], tuning.FINISH_S)
        self._trying: asyncio.Task[None] | None = None
        self.commands: Mapping[str, Command] = {}

    @property
    def urls(self) -> list[str]:
        """The URLs at which it can be reached, none while it cannot listen."""
        return self._connections.urls

    async def start(self) -> None:
        """Listen, or go on trying in the background."""
        if not await self._opened():
            self._trying = asyncio.create_task(self._try_again(), name="listen for the page")

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        await self._connections.close()
        self._sight.set_alarm(alarms.PAGE, "")

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(tuning.LISTEN_AGAIN_S)
            if await self._opened():
                return

    async def _opened(self) -> bool:
        try:
            await self._connections.open(self._settings)
        except DoorError as error:
            file = f" of {self._sight.config_path}" if self._sight.config_path else ""
            what = "The page" if self._section == "web" else "/metrics"
            text = f"{what} cannot be opened. {error} The lines are listen and port under [{self._section}]{file}."
            self._sight.set_alarm(alarms.PAGE, text)
            return False
        self._sight.set_alarm(alarms.PAGE, "")
        where = addresses.urls(self.urls, self._names)
        _log.info("the page is at %s" if self._section == "web" else "/metrics is at %s", " and ".join(where))
        return True
