"""The composition of a VAL client in a gateway: keys from the KMS, profile, GMKs, and the uplink of the PN GW.

val_client = await ValClientApp.open(config, folder, pn_id, handle_server, send_key_message, counters)
app = await GatewayApp.open(gateway_config, above=val_client.uplink, key_messages=val_client.boards)
await val_client.start()
...
await val_client.close()
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from gateway_agent import event_log
from gateway_agent.errors import GatewayError
from gateway_agent.store.errors import StoreDamaged
from gateway_agent.val_client.board_users import BoardUser, BoardUsers, Send
from gateway_agent.val_client.bridged_groups import BridgedGroups
from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.section import BoardAccess, SealSection
from gateway_agent.val_client.servers import Servers
from gateway_agent.val_client.steady_clock import SteadyClock
from gateway_agent.val_client.uplink import AskServer, HandleServer, MappedGroup, ValClientUplink
from mikey_sakke.group_configuration import NotifyResponse
from mikey_sakke.kms_faults import KmsFault
from private_store import folders

_log = logging.getLogger(__name__)

_BoardUser = tuple[BoardUser, Servers]

KEYS_FILE, GMKS_FILE, GROUPS_FILE = "seal_keys.sqlite3", "seal_gmks.sqlite3", "seal_groups.sqlite3"
RETRY_FIRST_S = 5
RETRY_MAX_S = 600


class ValClientApp:
    """A running VAL client. `client` has the GMKs; `uplink` and `boards` are the parts that the PN GW calls."""

    def __init__(
        self,
        stack: AsyncExitStack,
        kms: KmsClient,
        client: ValClient,
        servers: Servers,
        users: list[_BoardUser],
        boards: BoardUsers,
        uplink: ValClientUplink,
        gmks: GmkStore,
        groups: BridgedGroups,
    ) -> None:
        """Only `open` calls this."""
        self._stack = stack
        self._kms = kms
        self._servers = servers
        self._users = users
        self._refreshing: asyncio.Task[None] | None = None
        self.boards = boards
        self.client = client
        self.uplink = uplink
        self._gmks = gmks
        self._groups = groups

    @classmethod
    async def open(
        cls,
        config: SealSection,
        folder: Path,
        pn_id: str,
        handle_server: HandleServer,
        send_key_message: Send,
        counters: Counter[str],
        *,
        server: AskServer | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Open the files in `folder` (private). No server is asked before `start`. `clock` returns Unix seconds.

        `handle_server` and `send_key_message` are those of the PN GW. They are called after `start` only, so the PN GW
        may be made later. `counters` counts the messages of PNEs that are VAL clients. `server` passes requests about
        Service Groups that are not mapped to the CPNS Server. Raises StoreDamaged, ConfigError.
        """
        clock = clock or (lambda: int(time.time()))
        over = SteadyClock(clock)
        folders.make(folder, StoreDamaged)
        async with AsyncExitStack() as stack:
            material = KeyMaterial(folder / KEYS_FILE)
            stack.callback(material.close)
            gmks = GmkStore(folder / GMKS_FILE)
            stack.callback(gmks.close)
            groups = BridgedGroups(folder / GROUPS_FILE)
            stack.callback(groups.close)
            kms = await stack.enter_async_context(KmsClient(config.kms, material, clock, over))
            client = ValClient(
                config.kms.user_uri,
                gmks,
                kms.keys,
                clock,
                config,
                changed=lambda changed: uplink.gmks_changed(changed),
                tell=event_log.write,
                over=over,
            )
            mappings = [
                MappedGroup(each.group, each.sg_id, None if each.pnes is None else frozenset(each.pnes))
                for each in config.groups
            ]
            uplink = ValClientUplink(client, groups, pn_id, mappings, handle_server, server)
            users = [_board_user(board, send_key_message, counters) for board in config.boards]
            boards = BoardUsers({user.pne_id: user for user, _ in users}, counters)
            servers = Servers(client, config.cms, config.gms)
            return cls(stack.pop_all(), kms, client, servers, users, boards, uplink, gmks, groups)

    async def start(self) -> None:
        """Connect to the servers, and begin to deliver keys to the PN GW. Servers that fail are tried again."""
        self.uplink.start()
        self._refreshing = asyncio.create_task(self._refresh())
        await self._servers.__aenter__()
        for _, servers in self._users:
            await servers.__aenter__()

    def images(self) -> dict[str, bytes]:
        """Return the octets of this client's files in a backup, by their names in its folder. They hold no keys."""
        return {GMKS_FILE: self._gmks.image(), GROUPS_FILE: self._groups.image()}

    async def close(self) -> None:
        """Close all connections and files; the work continues at the next start."""
        for user, servers in self._users:
            await servers.close()
            await user.close()
        await self._servers.close()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.uplink.close()
        await self._stack.aclose()

    async def _refresh(self) -> None:
        """Fetch the keys of the present and, in time, of the next key period (SEAL-GMK-03, -19), without end."""
        retry = RETRY_FIRST_S
        while True:
            try:
                wait = await self._kms.refresh()
                retry = RETRY_FIRST_S
            except (KmsFault, GatewayError) as fault:
                _log.warning("KC1301 keys of the KMS: %s", fault)
                wait, retry = retry, min(RETRY_MAX_S, 2 * retry)
            await asyncio.sleep(max(1, wait))


def _board_user(board: BoardAccess, send: Send, counters: Counter[str]) -> _BoardUser:
    async def respond(response: NotifyResponse) -> None:
        await servers.respond(response)

    user = BoardUser(board.pne, board.user_uri, send, respond, counters)
    servers = Servers(user, board.cms, board.gms, beside=user.run)
    return user, servers
