"""The demo's house: a PN GW with its CPNS Server in one process, and virtual boards, each a process of its own."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import (
    BroadcastSection,
    DeliverySection,
    GatewayConfig,
    GatewaySection,
    MessagePlaneSection,
    TreeSection,
)
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.provisioning.board import Trust, new_board
from keycast.services.embedded import InProcessUplink
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port
from keycast.virtual_board.thief import Sniffer

PN_ID = "home"
GATEWAY_ID = "gw.home"
ROOMS = ("hall", "kitchen", "porch", "garage", "attic", "cellar", "garden", "study")


@dataclass
class House:
    """What the demo plays with. `boards` by PNE ID, in order."""

    app: GatewayApp
    server: CpnsServer
    boards: dict[str, VirtualBoard]
    sniffer: Sniffer


def board_names(count: int) -> list[str]:
    """PNE IDs for `count` boards: lamp.hall, lamp.kitchen, ..."""
    return [f"lamp.{ROOMS[i % len(ROOMS)]}{'' if i < len(ROOMS) else i // len(ROOMS) + 1}" for i in range(count)]


@asynccontextmanager
async def build_house(
    folder: Path,
    *,
    boards: int,
    loss: float = 0.0,
    seed: int = 1,
    delivery: DeliverySection | None = None,
    broadcast: BroadcastSection | None = None,
    server_config: ServerConfig | None = None,
) -> AsyncIterator[House]:
    """A running house in `folder`; its boards have sessions soon after. All of it ends with the context."""
    port = own_port()
    config = GatewayConfig(
        gateway=GatewaySection(id=GATEWAY_ID, pn=PN_ID, state_dir=folder / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=port, discovery=False),
        broadcast=broadcast or BroadcastSection(interfaces=["lo"], port=broadcast_port()),
        delivery=delivery or DeliverySection(),
        tree=TreeSection(height=10),
    )
    sniffer = Sniffer()
    server = await CpnsServer.open(folder / "server", server_config or ServerConfig())
    try:
        server.register_gateway(GATEWAY_ID, PN_ID, is_open=True)
        app = await GatewayApp.open(config, InProcessUplink(server, GATEWAY_ID))
        try:
            server.attach(GATEWAY_ID, app.gateway.handle_server)
            sniffer.pn_alias = app.pn_alias
            trust = Trust(
                app.identity.credential,
                app.signing_key.public_key,
                app.signing_key.epoch,
                PN_ID,
                f"{GATEWAY_ADDRESS}:{port}",
            )
            records = []
            names = board_names(boards)
            for name in names:
                record, credential = new_board(name, trust)
                app.register(credential)
                records.append(record)
            await app.start({})
            first = free_numbers(boards)
            async with Fleet(folder / "boards", records, first=first, loss=loss, seed=seed) as fleet:
                yield House(app, server, dict(zip(names, fleet.boards, strict=True)), sniffer)
        finally:
            await app.close()
    finally:
        await server.close()
        sniffer.close()


def new_seed() -> int:
    """A seed for a run that was not given one."""
    return secrets.randbelow(1 << 31)
