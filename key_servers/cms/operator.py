"""The operator's side of a CMS without its server, for commands, which thereby start without an HTTP library."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from key_servers.cms.profiles import Profiles
from key_servers.https.listening import Listening
from key_servers.sql import migrate, open_database

STORE_FILE = "cms.sqlite3"


@asynccontextmanager
async def open_profiles(config: Listening) -> AsyncIterator[Profiles]:
    """Yield the operator's side without the server, for commands. A running CMS notices changes soon.

    Raise ServerError.
    """
    database = await open_database(config.database_url, config.state_dir / STORE_FILE)
    try:
        await migrate(database, "key_servers.cms.migrations")
        yield Profiles(database, lambda: int(time.time()))
    finally:
        await database.close()
