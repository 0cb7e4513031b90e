"""The demo's house: a PN GW, its CPNS Server in the same process, and virtual boards, each a process of its own.

The Server is embedded in the PN GW, or listens on loopback as a Server of its own, with a session between the two.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_agent.app import GatewayApp, own_keys
from gateway_agent.config.load import schema_of
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection, TreeSection
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.udp_broadcast import BroadcastSection
from gateway_agent.uplinks.udp import UdpUplinkSection
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import Receiver
from keycast.demo.watched_gateway import WatchedGateway
from keycast.provisioning.board import new_board, trust_of
from keycast.services.home import open_home, straight
from keycast.services.trusted_server import trust_server
from keycast.virtual_board.advert_sniffer import AdvertSniffer
from keycast.virtual_board.board import BluetoothAir, VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port
from keycast.virtual_board.thief import Sniffer
from message_plane import credentials

PN_ID = "home"
GATEWAY_ID = "gw.home"
WIFI, BLE, BOTH = "Wi-Fi", "Bluetooth", "Wi-Fi and Bluetooth"
"""The radios that a board may have."""
COMPANY_ID = 0xFFFF
_AIR_OPENS_S = 30.0
ROOMS = ("hall", "kitchen", "porch", "garage", "attic", "cellar", "garden", "study")


@dataclass
class House:
    """A running house. `boards` maps PNE IDs to boards, in order, and `radios` to the radios that each has.

    `sniffer` records all broadcasts of the Wi-Fi, `adverts` all adverts, if some board has Bluetooth.
    """

    app: GatewayApp
    server: CpnsServer
    boards: dict[str, VirtualBoard]
    sniffer: Sniffer
    radios: dict[str, str]
    adverts: AdvertSniffer | None = None


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
    radios: Sequence[str] = (WIFI,),
    elsewhere: bool = False,
) -> AsyncIterator[House]:
    """Run a house with all its files in `folder`, and end all of it with the context. Boards have sessions soon after.

    `loss` is the probability that a datagram or an advert is lost, `seed` that of the losses; `on_the_way` is that of
    `open_home`. The first board has the first of `radios` (WIFI, BLE or BOTH), the next one the next, and so on again.
    With `elsewhere` the Server is one of its own, which the boards know, too, and the PN GW is a WatchedGateway.
    """
    names = board_names(boards)
    radio_of = dict(zip(names, itertools.cycle(radios), strict=False))
    uses_ble = any(each != WIFI for each in radio_of.values())
    air = folder / "air"
    more: dict[str, Any] = {"ble": BleSection(sender="virtual", adapter=str(air))} if uses_ble else {}
    config = schema_of(more)(
        gateway=GatewaySection(id=GATEWAY_ID, pn=PN_ID, state_dir=folder / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=own_port(), discovery=False),
        broadcast=broadcast or BroadcastSection(interfaces=["lo"], port=broadcast_port()),
        delivery=delivery or DeliveryPolicy(),
        tree=TreeSection(height=10),
        **more,
    )
    server_config = server_config or ServerConfig()
    async with AsyncExitStack() as stack:
        server = None
        if elsewhere:
            server_config = server_config.model_copy(update={"listen": [GATEWAY_ADDRESS], "port": own_port()})
            uplink = UdpUplinkSection(host=GATEWAY_ADDRESS, port=server_config.port, server_id=server_config.id)
            config = config.model_copy(update={"uplink": uplink})
            server = await stack.enter_async_context(_server_elsewhere(folder / "server", server_config, config))
        kind = WatchedGateway if elsewhere else GatewayApp
        home = await stack.enter_async_context(
            open_home(config, server_config=server_config, on_the_way=on_the_way, kind=kind)
        )
        app, server = home.app, server or home.server
        assert server is not None  # the default uplink is an embedded Server
        sniffer = stack.enter_context(closing(Sniffer(pn_alias=app.pn_alias)))
        trust = trust_of(app)
        records = {}
        for name in names:
            records[name], credential = new_board(name, trust)
            app.register(credential)
            if elsewhere:
                server.admit_pne(name, PN_ID, credential.ccs)
        await home.start()
        adverts = None
        if uses_ble:
            await _advertises(app)
            adverts = stack.enter_context(closing(AdvertSniffer(air, COMPANY_ID)))
        first = free_numbers(boards)
        running: dict[str, VirtualBoard] = {}
        for radio in dict.fromkeys(radio_of.values()):
            of_radio = [name for name in names if radio_of[name] == radio]
            fleet = Fleet(
                folder / "boards",
                [records[name] for name in of_radio],
                first=first + len(running),
                wifi=radio != BLE,
                company_id=None if radio == WIFI else COMPANY_ID,
                air=None if radio == WIFI else BluetoothAir(air, loss),
                loss=loss,
                seed=seed + len(running),
            )
            await stack.enter_async_context(fleet)
            running |= dict(zip(of_radio, fleet.boards, strict=True))
        yield House(app, server, {name: running[name] for name in names}, sniffer, radio_of, adverts)


@asynccontextmanager
async def _server_elsewhere(folder: Path, settings: ServerConfig, gateway: GatewayConfig) -> AsyncIterator[CpnsServer]:
    """Run a CPNS Server that listens, and let it and the PN GW of the configuration `gateway` know each other."""
    server = await CpnsServer.open(folder, settings)
    try:
        trust_server(gateway, credentials.parse(server.credential(), credentials.ROLE_SERVER))
        identity, _ = own_keys(gateway)
        server.register_gateway(GATEWAY_ID, PN_ID, identity.credential.ccs, is_open=True)
        server.start()
        yield server
    finally:
        await server.close()


async def _advertises(app: GatewayApp) -> None:
    """Wait until the gateway has opened its virtual air and advertises on it."""
    async with asyncio.timeout(_AIR_OPENS_S):
        while any(not radio.interval_ms or radio.problem for radio in app.radios()):
            await asyncio.sleep(0.02)


def new_seed() -> int:
    """Return a random seed, for a run without `--seed`."""
    return secrets.randbelow(1 << 31)
