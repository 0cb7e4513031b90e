"""Asks boards for a report, as there is a new offer or one was withdrawn."""

import asyncio
import logging
from collections.abc import Iterable

from gateway_agent.core.background import Background
from gateway_agent.core.ports import NoAnswer, Unicast
from gateway_agent.updates import reports

_log = logging.getLogger(__name__)

AT_ONCE = 4
"""Boards that are asked at the same time."""
GAP_S = 0.05
"""Between two of them at least, as the report that each makes costs a request, too."""


class AskingBoards:
    """Asks boards that have a session. A board that does not answer reports by itself when its session is new."""

    def __init__(self, unicast: Unicast) -> None:
        """`unicast` requests the resource of updates from boards."""
        self._unicast = unicast
        self._background = Background()
        self._places = asyncio.Semaphore(AT_ONCE)

    def ask(self, pne_ids: Iterable[str]) -> None:
        """Begin to ask these boards, in the background."""
        self._background.spawn(self._ask_all(list(pne_ids)))

    async def close(self) -> None:
        """Stop asking."""
        await self._background.close()

    async def _ask_all(self, pne_ids: list[str]) -> None:
        for pne_id in pne_ids:
            if self._unicast.has_session(pne_id):
                await self._places.acquire()
                self._background.spawn(self._ask(pne_id))
                await asyncio.sleep(GAP_S)

    async def _ask(self, pne_id: str) -> None:
        try:
            await self._unicast.request(pne_id, reports.ask())
        except NoAnswer as problem:  # such as one of an earlier release, which has no such resource
            _log.debug("%s was not asked about updates: %s", pne_id, problem)
        finally:
            self._places.release()
