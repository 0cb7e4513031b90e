"""The operator's side of a GMS without its server, for commands, which thereby start without an HTTP library."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from key_servers.gms.management import GroupManagement
from key_servers.https.listening import Listening
from key_servers.sql import migrate, open_database

STORE_FILE = "gms.sqlite3"


@asynccontextmanager
async def open_management(config: Listening) -> AsyncIterator[GroupManagement]:
    """Yield the operator's side without the server, for commands. A running GMS notices changes soon.

    Raise ServerError.
    """
    database = await open_database(config.database_url, config.state_dir / STORE_FILE)
    try:
        await migrate(database, "key_servers.gms.migrations")
        yield GroupManagement(database, lambda: int(time.time()), secrets.token_bytes, lambda user: None)
    finally:
        await database.close()
