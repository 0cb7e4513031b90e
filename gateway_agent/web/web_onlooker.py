"""The page, from start to end: it listens, and makes links that log in."""

import logging
from collections.abc import Mapping
from typing import Any

from gateway_agent.control import Command
from gateway_agent.errors import GatewayError
from gateway_agent.observe.sight import Sight
from gateway_agent.web import addresses, password, tuning
from gateway_agent.web.application import application
from gateway_agent.web.listener import Listener
from gateway_agent.web.log_in import LogIn
from gateway_agent.web.section import WebSection

_log = logging.getLogger(__name__)


class PageClosed(GatewayError):
    """The page is not open, so nobody can be let in."""


class WebOnlooker:
    """The page, from `start` to `close`."""

    def __init__(self, section: WebSection, sight: Sight) -> None:
        self._section = section
        self._state_dir = sight.state_dir
        self._log_in = LogIn(sight.state_dir, section.port)
        made = application(sight, self._log_in, section.hosts)
        self._listener = Listener(section.listening(), made, sight, names=section.hosts)
        self.commands: Mapping[str, Command] = {"web.link": self.link}

    async def start(self) -> None:
        """Listen, now or as soon as it is possible."""
        if self._section.is_read_along:
            _log.warning("KC1501 the page is sent without TLS: others on the network can read it, and its password")
        if not password.mark(self._state_dir):
            _log.info("the page has no password: set one by keycast web password, or log in once by keycast web link")
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        await self._listener.close()

    def link(self) -> dict[str, Any]:
        """Return `urls` of the page, one for each address, of which one logs in once within so many `seconds`.

        Raises PageClosed while the page cannot be opened.
        """
        if not self._listener.urls:
            raise PageClosed("The page cannot be opened.", "The alarm says why: keycast status")
        token = self._log_in.sessions.new_link()
        every = addresses.urls(self._listener.urls, self._section.hosts)
        found = [f"{each}{addresses.LOG_IN}?token={token}" for each in every]
        return {"urls": found, "seconds": int(tuning.LINK_AGE_S)}
