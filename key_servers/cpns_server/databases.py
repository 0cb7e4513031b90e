"""Opens what one process of a CPNS Server works on: a folder that it has alone, or its part of PostgreSQL."""

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from key_servers.cpns_server.alarm_board import AlarmBoard
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.database import ServerDatabase
from key_servers.cpns_server.shards.all_shards import AllShards
from key_servers.cpns_server.shards.holding import ShardHolder
from key_servers.cpns_server.sqlite_database import RESTORE_BACKUP, SqliteServerDatabase
from key_servers.errors import StoreUnusable
from message_plane.errors import StoreError
from message_plane.session_file import SessionFile
from message_plane.session_store import SessionStore
from private_store import files, folders

_log = logging.getLogger(__name__)

SESSIONS_FILE = "sessions.sqlite3"
PROCESS_FILE = "process"  # of a process that shares a database
_NAME_LEN = 4  # octets


@dataclass(frozen=True)
class Foundation:
    """The database of the store, the shards that this process works for, and how to open the sessions.

    `process` is a name that this process has among those that share the database, also after a restart; "" if it is
    the only one.
    """

    database: ServerDatabase
    shards: AllShards | ShardHolder
    open_sessions: Callable[[], SessionStore]
    board: AlarmBoard = field(default_factory=AlarmBoard)
    process: str = ""


def open_foundation(state_dir: Path, config: ServerConfig, url: str | None = None) -> Foundation:
    """Open PostgreSQL at `url` (postgresql://...), or without a URL the files in `state_dir`.

    With PostgreSQL, which needs psycopg and a running event loop, this process shares the PN GWs with others. It works
    alone if it listens on UDP, as a datagram has no way to the right process there, and for all if it is embedded.
    Raises StoreUnusable, StoreInUse.
    """
    if url is None:
        sessions_file = state_dir / SESSIONS_FILE
        database = SqliteServerDatabase(state_dir)
        return Foundation(database, AllShards(), lambda: SessionFile(sessions_file, RESTORE_BACKUP))
    _require_psycopg()
    from key_servers.cpns_server.postgres import sessions, shards
    from key_servers.cpns_server.postgres.alarms import PostgresAlarmBoard
    from key_servers.cpns_server.postgres.database import PostgresServerDatabase

    if not config.is_remote:
        postgres = PostgresServerDatabase(url)
        return Foundation(postgres, AllShards(), lambda: sessions.PostgresSessions(postgres.source.connect))
    name = shards.process_name(secrets.token_hex(4))
    table = shards.PostgresShards(lambda: postgres.source.connect(), name)
    held = ShardHolder(table, all_of_them=bool(config.listen))
    postgres = PostgresServerDatabase(url, held)
    postgres.notifications.subscribe(shards.CHANNEL, lambda _: held.wake())

    def open_sessions() -> SessionStore:
        opened = sessions.PostgresSessions(postgres.source.connect)
        postgres.notifications.subscribe(sessions.CHANNEL, lambda entity_id: _read(opened.refresh, entity_id))
        return opened

    return Foundation(postgres, held, open_sessions, PostgresAlarmBoard(postgres, name), _name_in(state_dir))


def open_database(state_dir: Path, url: str | None = None) -> ServerDatabase:
    """Open the database alone, as a process does that works for no PN GW. Raises the errors of `open_foundation`."""
    if url is None:
        return SqliteServerDatabase(state_dir)
    _require_psycopg()
    from key_servers.cpns_server.postgres.database import PostgresServerDatabase

    return PostgresServerDatabase(url)


def _name_in(state_dir: Path) -> str:
    """Return the name that is kept in a state folder, drawn when it is first used. Raises StoreUnusable."""
    folders.make(state_dir, StoreUnusable)
    path = state_dir / PROCESS_FILE
    if not path.exists():
        files.write_new(path, secrets.token_hex(_NAME_LEN).encode(), StoreUnusable)
    return files.read(path, StoreUnusable).decode("ascii", "replace")


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise StoreUnusable(
            "PostgreSQL needs psycopg.", f"Run: {sys.executable} -m pip install 'keycast[postgres]'"
        ) from None


def _read(refresh: Callable[[str], None], entity_id: str) -> None:
    """Read in a thread what another process has changed. A failure is that of the database, which others tell."""

    def read() -> None:
        try:
            refresh(entity_id)
        except StoreError as error:
            _log.debug("changes of credentials cannot be read: %s", error)

    asyncio.get_running_loop().run_in_executor(None, read)
