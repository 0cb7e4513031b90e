"""Hears what the processes on one PostgreSQL database tell each other: NOTIFY, and behind it a poll.

What is told in a transaction arrives after its commit, about a millisecond later. Nothing that is heard is taken for
everything: each subscriber is told "" after a connection was made, and every `tuning.POLL_S`.
"""

import asyncio
import logging
from collections.abc import Callable

import psycopg

from key_servers.cpns_server import tuning
from key_servers.cpns_server.postgres.connection import SCHEMA, parameters
from key_servers.cpns_server.postgres.origin import ALIVE

_log = logging.getLogger(__name__)

Take = Callable[[str], None]
"""Called with what was told on a channel, "" for "look at everything"."""


class PostgresNotifications:
    """The channels of one process, on a connection of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._takers: dict[str, list[Take]] = {}

    def subscribe(self, channel: str, take: Take) -> None:
        """Call `take`, in the event loop, with all that is told on `channel`. It is called before `run`."""
        self._takers.setdefault(channel, []).append(take)

    async def run(self) -> None:
        """Listen until it is cancelled, and connect again after a failure."""
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(**parameters(self._url), autocommit=True)
                async with connection:
                    await self._listen(connection)
            except psycopg.Error as error:
                _log.debug("changes of other processes cannot be heard: %s", type(error).__name__)
            await asyncio.sleep(tuning.LISTEN_AGAIN_S)

    async def _listen(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await connection.execute(f"SET search_path = {SCHEMA}")
        for channel in self._takers:
            await connection.execute(f"LISTEN {channel}")
        while True:
            for takers in self._takers.values():
                for take in takers:
                    take("")
            async for told in connection.notifies(timeout=tuning.POLL_S):
                for take in self._takers.get(told.channel, ()):
                    take(told.payload)
            try:
                async with asyncio.timeout(tuning.DATABASE_WAIT_S):
                    await connection.execute(ALIVE)
            except TimeoutError:
                return
