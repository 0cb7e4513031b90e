"""A GMS put together. This is the only module that names concrete parts.

config = GmsConfig(state_dir=folder, gms_uri="sip:gms.example.org")
async with await Gms.open(config, provisioning) as gms:
    token = await gms.management.add_user("sip:alice@example.org")
    await gms.management.create_group("sip:crew@gms.example.org")
    gms.urls                                       # where clients reach it
"""

import secrets
import time
from collections import Counter
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field

from key_servers.gms import http
from key_servers.gms.courier import NoticeCourier
from key_servers.gms.maker import Maker
from key_servers.gms.management import Clock, GroupManagement
from key_servers.gms.operator import STORE_FILE
from key_servers.gms.provisioning import KeyProvisioning, OwnKeys
from key_servers.https.json_door import JsonDoor
from key_servers.https.listening import Listening
from key_servers.sql import Database, migrate, open_database
from mikey_sakke.group_configuration import URI_MAX


class GmsConfig(Listening):
    """The settings of a GMS."""

    gms_uri: Annotated[str, Field(min_length=1, max_length=URI_MAX, description="server URI, its identity")]
    workers: Annotated[int, Field(ge=-1, le=256)] = Field(
        0, description="processes that make messages, 0 = one for each core, -1 = a thread"
    )


class GmsServer:
    """One group management server. `management` is the operator's side."""

    def __init__(
        self,
        gms_uri: str,
        database: Database,
        maker: Maker,
        management: GroupManagement,
        door: JsonDoor,
        counters: Counter[str],
    ) -> None:
        """Keep the parts; only `open` calls this."""
        self.gms_uri = gms_uri
        self._database = database
        self._maker = maker
        self._door = door
        self.management = management
        self.counters = counters

    @classmethod
    async def open(cls, config: GmsConfig, provisioning: KeyProvisioning, *, clock: Clock | None = None) -> Self:
        """Fetch the GMS's own keys, open the store and listen. `clock` returns Unix seconds. Raise ServerError."""
        clock = clock or (lambda: int(time.time()))
        keys = OwnKeys(provisioning)
        await keys.open(clock())
        database = await open_database(config.database_url, config.state_dir / STORE_FILE)
        maker = Maker(keys.certificate, config.gms_uri, config.workers)
        counters: Counter[str] = Counter()
        try:
            await migrate(database, "key_servers.gms.migrations")
            courier = NoticeCourier(database, config.gms_uri, keys, maker, clock, counters)
            management = GroupManagement(database, clock, secrets.token_bytes, courier.changed)
            door = http.door(management, courier, clock, counters)
            gms = cls(config.gms_uri, database, maker, management, door, counters)
            await door.open(config)
        except BaseException:
            maker.close()
            await database.close()
            raise
        return gms

    @property
    def urls(self) -> list[str]:
        """The URLs at which the GMS can be reached."""
        return self._door.urls

    async def close(self) -> None:
        """Stop listening, end the workers, close the store."""
        await self._door.close()
        self._maker.close()
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
