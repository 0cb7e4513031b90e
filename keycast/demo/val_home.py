"""A home with the servers of `seal_house`: a PN GW and a board that are VAL clients, and a board that is none.

The GMK reaches `lamp` in a message of its own, which the PN GW forwards, and `door` as HKDF(GMK) by broadcast.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from device_agent.key_store import KeyStore
from device_agent.val_client import records
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.val_client.app import ValClientApp
from gateway_agent.val_client.section import BoardAccess, GroupAccess, SealSection
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from key_servers.gms.values import Affiliation
from keycast.demo.seal_house import GMS_URI, KMS_URI, SealHouse, until
from keycast.provisioning.board import new_board, trust_of
from keycast.provisioning.val_client import fetch
from keycast.services.home import open_home
from keycast.virtual_board import board as virtual_board
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port

GATEWAY_USER, LAMP_USER = "sip:gw.home@example.org", "sip:lamp@example.org"
GROUP, SG = "sip:home@gms.example.org", "home/all"


@dataclass
class ValHome:
    """The running home."""

    val_client: ValClientApp
    app: GatewayApp
    lamp: VirtualBoard
    door: VirtualBoard

    def lamp_gmks(self) -> dict[str, bytes]:
        """Return the GMKs that the lamp holds, by GMK-ID in hexadecimal; a revoked GMK is empty."""
        return {gmk.gmk_id.hex(): gmk.gmk for gmk in records.load_gmks(KeyStore(self.lamp.nvs.snapshot()))}

    async def door_version(self) -> int:
        """Return the version of the Group Key that the door holds, 0 for none."""
        return int((await self.door.command("status"))["groups"].get(SG, 0))


@asynccontextmanager
async def build_val_home(servers: SealHouse, folder: Path) -> AsyncIterator[ValHome]:
    """Register gateway and lamp at all servers and in GROUP, provision both boards, and start everything.

    All of it ends with the context.
    """
    await servers.gms.management.create_group(GROUP, "a home", rekey_on_removal=True)
    tokens = {user: await _registered(servers, user) for user in (GATEWAY_USER, LAMP_USER)}
    config = _config(folder, tokens)
    numbers = free_numbers(2)
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(open_home(config))
        app, val_client = home.app, home.val_client
        assert val_client is not None  # the configuration has [seal]
        boards = []
        for number, name in enumerate(("lamp", "door"), numbers):
            record, credential = new_board(name, trust_of(app))
            app.register(credential)
            boards.append(VirtualBoard.create(folder / name, number, record))
        kms, _, cms = tokens[LAMP_USER]
        made = await fetch(kms, cms, lambda: int(time.time()))
        made.write(folder / "lamp-val")
        await boards[0].take_val_files(folder / "lamp-val")
        await home.start()
        for board in boards:
            await stack.enter_async_context(powered(board))
        await until(lambda: val_client.client.profile is not None, "the gateway's profile")  # no join succeeds before
        await boards[1].event("session")
        await boards[1].command("join", group=SG)
        yield ValHome(val_client, app, boards[0], boards[1])


@asynccontextmanager
async def powered(board: VirtualBoard) -> AsyncIterator[None]:
    """Power the board for as long as the context lasts.

    The board is started again whenever it resets itself, as a board with little heap does for each message.
    """

    async def start_again() -> None:
        while await board.ended(3600) == virtual_board.RESET_CODE:
            await board.start(up=False)

    await board.start(up=False)
    watch = asyncio.create_task(start_again())
    try:
        yield
    finally:
        watch.cancel()
        await board.kill()


async def _registered(servers: SealHouse, user: str) -> tuple[KmsAccess, GmsAccess, ServerAccess]:
    """Add a user at all servers and to GROUP; return how it reaches KMS, GMS and CMS."""
    manage, profiles, ca = servers.gms.management, servers.cms.profiles, servers.ca
    tokens = [await servers.kms.add_user(user), await manage.add_user(user), await profiles.add_user(user)]
    await profiles.put_membership(user, GROUP, GMS_URI)
    await manage.add_member(GROUP, user, Affiliation.IMPLICIT)
    kms, gms, cms = (SecretStr(token) for token in tokens)
    return (
        KmsAccess(url=servers.kms.urls[0], kms_uri=KMS_URI, user_uri=user, token=kms, ca_file=ca),
        GmsAccess(url=servers.gms.urls[0], token=gms, ca_file=ca, gms_uri=GMS_URI),
        ServerAccess(url=servers.cms.urls[0], token=cms, ca_file=ca),
    )


def _config(folder: Path, tokens: dict[str, tuple[KmsAccess, GmsAccess, ServerAccess]]) -> GatewayConfig:
    kms, gms, cms = tokens[GATEWAY_USER]
    _, lamp_gms, lamp_cms = tokens[LAMP_USER]
    lamp = BoardAccess(pne="lamp", user_uri=LAMP_USER, cms=lamp_cms, gms=[lamp_gms])
    mapped = [GroupAccess(group=GROUP, sg_id=SG)]
    return GatewayConfig(
        gateway=GatewaySection(id="gw.home", pn="home", state_dir=folder / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=own_port(), discovery=False),
        broadcast=BroadcastSection(interfaces=["lo"], port=broadcast_port()),
        delivery=DeliveryPolicy(method="broadcast"),
        seal=SealSection(kms=kms, cms=cms, gms=[gms], groups=mapped, boards=[lamp]),
    )
