"""The demo's house: a PN GW with its CPNS Server in one process, and virtual boards, each a process of its own."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection, TreeSection
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.udp_broadcast import BroadcastSection
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import Receiver
from keycast.provisioning.board import new_board, trust_of
from keycast.services.home import open_home, straight
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port
from keycast.virtual_board.thief import Sniffer

PN_ID = "home"
GATEWAY_ID = "gw.home"
ROOMS = ("hall", "kitchen", "porch", "garage", "attic", "cellar", "garden", "study")


@dataclass
class House:
    """A running house. `boards` maps PNE IDs to boards, in order; `sniffer` records all broadcasts."""

    app: GatewayApp
    server: CpnsServer
    boards: dict[str, VirtualBoard]
    sniffer: Sniffer


def board_names(count: int) -> list[str]:
    """Return PNE IDs for `count` boards: lamp.hall, lamp.kitchen, ..."""
    return [f"lamp.{ROOMS[i % len(ROOMS)]}{'' if i < len(ROOMS) else i // len(ROOMS) + 1}" for i in range(count)]


@asynccontextmanager
async def build_house(
    folder: Path,
    *,
    boards: int,
    loss: float = 0.0,
    seed: int = 1,
    delivery: DeliveryPolicy | None = None,
    broadcast: BroadcastSection | None = None,
    server_config: ServerConfig | None = None,
    on_the_way: Callable[[Receiver], Receiver] = straight,
) -> AsyncIterator[House]:
    """Run a house with all its files in `folder`, and end all of it with the context. Boards have sessions soon after.

    `loss` is the probability that a datagram is lost, `seed` that of the losses; `on_the_way` is that of `open_home`.
    """
    config = GatewayConfig(
        gateway=GatewaySection(id=GATEWAY_ID, pn=PN_ID, state_dir=folder / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=own_port(), discovery=False),
        broadcast=broadcast or BroadcastSection(interfaces=["lo"], port=broadcast_port()),
        delivery=delivery or DeliveryPolicy(),
        tree=TreeSection(height=10),
    )
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(
            open_home(config, server_config=server_config or ServerConfig(), on_the_way=on_the_way)
        )
        app, server = home.app, home.server
        assert server is not None  # the default uplink is an embedded Server
        sniffer = stack.enter_context(closing(Sniffer(pn_alias=app.pn_alias)))
        trust = trust_of(app)
        records = []
        names = board_names(boards)
        for name in names:
            record, credential = new_board(name, trust)
            app.register(credential)
            records.append(record)
        await home.start()
        first = free_numbers(boards)
        fleet = await stack.enter_async_context(Fleet(folder / "boards", records, first=first, loss=loss, seed=seed))
        yield House(app, server, dict(zip(names, fleet.boards, strict=True)), sniffer)


def new_seed() -> int:
    """Return a random seed, for a run without `--seed`."""
    return secrets.randbelow(1 << 31)
