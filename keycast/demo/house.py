"""The demo's houses: each a PN GW and its virtual boards, which are processes of their own; and the CPNS Server.

The Server is embedded in the PN GW of the only house. Otherwise it is one of its own in this process, with sessions
between it and the PN GWs, over UDP or MQTT (`keycast.demo.uplinks`).
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway_agent.app import GatewayApp
from gateway_agent.config.load import schema_of
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection, TreeSection
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.state_files import own_keys
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import Receiver
from keycast.demo.uplinks import EMBEDDED, UDP, open_way
from keycast.demo.watched_gateway import WatchedGateway
from keycast.provisioning.board import new_board, trust_of
from keycast.services.home import open_home, straight
from keycast.services.trusted_server import trust_server
from keycast.virtual_board.advert_sniffer import AdvertSniffer
from keycast.virtual_board.board import BluetoothAir, Network, VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, broadcast_port, free_numbers, own_port
from keycast.virtual_board.thief import Sniffer
from message_plane import credentials

PN_IDS = ("home", "cabin", "barn", "mill")
"""The PNs of the houses, in order."""
PN_ID = PN_IDS[0]
GATEWAY_ID = f"gw.{PN_ID}"
WIFI, BLE, BOTH = "Wi-Fi", "Bluetooth", "Wi-Fi and Bluetooth"
"""The radios that a board may have."""
COMPANY_ID = 0xFFFF
_AIR_OPENS_S = 30.0
ROOMS = ("hall", "kitchen", "porch", "garage", "attic", "cellar", "garden", "study")


@dataclass
class House:
    """A running house. `boards` maps PNE IDs to boards, in order, and `radios` to the radios that each has.

    `sniffer` records all broadcasts of its Wi-Fi, `adverts` all adverts, if some board has Bluetooth.
    """

    app: GatewayApp
    server: CpnsServer
    boards: dict[str, VirtualBoard]
    sniffer: Sniffer
    radios: dict[str, str]
    adverts: AdvertSniffer | None = None

    @property
    def pn_id(self) -> str:
        """Its PN."""
        return self.app.config.gateway.pn


def board_names(count: int) -> list[str]:
    """Return PNE IDs for `count` boards: lamp.hall, lamp.kitchen, ..."""
    return [f"lamp.{ROOMS[i % len(ROOMS)]}{'' if i < len(ROOMS) else i // len(ROOMS) + 1}" for i in range(count)]


@asynccontextmanager
async def build_house(folder: Path, *, elsewhere: bool = False, **how: Any) -> AsyncIterator[House]:
    """Run one house, as `build_houses` does; with `elsewhere` the Server is one of its own, reached over UDP."""
    async with build_houses(folder, uplink=UDP if elsewhere else EMBEDDED, **how) as (house,):
        yield house


@asynccontextmanager
async def build_houses(
    folder: Path,
    *,
    boards: int,
    homes: int = 1,
    uplink: str = EMBEDDED,
    loss: float = 0.0,
    seed: int = 1,
    delivery: DeliveryPolicy | None = None,
    broadcast: BroadcastSection | None = None,
    server_config: ServerConfig | None = None,
    on_the_way: Callable[[Receiver], Receiver] = straight,
    radios: Sequence[str] = (WIFI,),
) -> AsyncIterator[list[House]]:
    """Run `homes` houses with all their files in `folder`, and end all of it with the context.

    Boards have sessions soon after. They live in the houses by turns, and none hears the radios of another house.
    `loss` is the probability that a datagram or an advert is lost, `seed` that of the losses; `on_the_way` is that of
    `open_home`. The first board of a house has the first of `radios` (WIFI, BLE or BOTH), the next one the next, and so
    on again. Unless `uplink` is EMBEDDED, which is for one house only, boards know the Server, too, and each PN GW is a
    WatchedGateway. Raises NoBroker where MQTT needs a Mosquitto and there is none.
    """
    server_config = server_config or ServerConfig()
    names = [board_names(boards)[place::homes] for place in range(homes)]
    how = _How(radios, loss, seed, on_the_way)
    ports = {pn_id: broadcast_port() if pn_id == PN_ID else own_port() for pn_id in PN_IDS[:homes]}
    configs = [
        _config(folder, pn_id, delivery, broadcast or BroadcastSection(interfaces=["lo"], port=port), how)
        for pn_id, port in ports.items()
    ]
    async with AsyncExitStack() as stack:
        server = None
        if uplink != EMBEDDED:
            gateway_ids = [config.gateway.id for config in configs]
            way = await stack.enter_async_context(open_way(uplink, folder / "uplink", server_config.id, gateway_ids))
            server_config = server_config.model_copy(update=way.settings)
            configs = [config.model_copy(update={"uplink": way.section_of(config.gateway.id)}) for config in configs]
            server = await stack.enter_async_context(_server_elsewhere(folder / "server", server_config, configs))
        houses = []
        for config, port, in_it in zip(configs, ports.values(), names, strict=True):
            house = _house(folder, config, port, in_it, server, server_config, how)
            houses.append(await stack.enter_async_context(house))
            how = replace(how, seed=how.seed + len(in_it))
        yield houses


@dataclass(frozen=True)
class _How:
    """What all houses have in common."""

    radios: Sequence[str]
    loss: float
    seed: int
    on_the_way: Callable[[Receiver], Receiver]

    @property
    def uses_ble(self) -> bool:
        return any(each != WIFI for each in self.radios)


def _config(
    folder: Path, pn_id: str, delivery: DeliveryPolicy | None, broadcast: BroadcastSection, how: _How
) -> GatewayConfig:
    place = _place(folder, pn_id)
    more: dict[str, Any] = {"ble": BleSection(sender="virtual", adapter=str(place / "air"))} if how.uses_ble else {}
    return schema_of(more)(
        gateway=GatewaySection(id=f"gw.{pn_id}", pn=pn_id, state_dir=place / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=own_port(), discovery=False),
        broadcast=broadcast,
        delivery=delivery or DeliveryPolicy(),
        tree=TreeSection(height=10),
        **more,
    )


def _place(folder: Path, pn_id: str) -> Path:
    """Return the folder of a house: that of all of them for the first one."""
    return folder if pn_id == PN_ID else folder / pn_id


@asynccontextmanager
async def _house(
    folder: Path,
    config: GatewayConfig,
    port: int,
    names: Sequence[str],
    server: CpnsServer | None,
    server_config: ServerConfig,
    how: _How,
) -> AsyncIterator[House]:
    """Run one house, whose radio is UDP port `port` of the loopback network.

    `server` is the Server elsewhere, None if it is embedded with the settings `server_config`.
    """
    air = _place(folder, config.gateway.pn) / "air"
    radio_of = dict(zip(names, itertools.cycle(how.radios), strict=False))
    async with AsyncExitStack() as stack:
        kind = GatewayApp if server is None else WatchedGateway
        home = await stack.enter_async_context(
            open_home(config, server_config=server_config, on_the_way=how.on_the_way, kind=kind)
        )
        app, own_server = home.app, server or home.server
        assert own_server is not None  # the default uplink is an embedded Server
        sniffer = stack.enter_context(closing(Sniffer(port=port, pn_alias=app.pn_alias)))
        trust = trust_of(app)
        records = {}
        for name in names:
            records[name], credential = new_board(name, trust)
            app.register(credential)
            if server is not None:
                server.admit_pne(name, config.gateway.pn, credential.ccs)
        await home.start()
        adverts = None
        if how.uses_ble:
            await _advertises(app)
            adverts = stack.enter_context(closing(AdvertSniffer(air, COMPANY_ID)))
        first = free_numbers(len(names))
        running: dict[str, VirtualBoard] = {}
        for radio in dict.fromkeys(radio_of.values()):
            of_radio = [name for name in names if radio_of[name] == radio]
            number = first + len(running)
            networks = [Network.loopback(each) for each in range(number, number + len(of_radio))]
            fleet = Fleet(
                folder / "boards",
                [records[name] for name in of_radio],
                networks=[replace(network, broadcast_port=port) for network in networks],
                first=number,
                wifi=radio != BLE,
                company_id=None if radio == WIFI else COMPANY_ID,
                air=None if radio == WIFI else BluetoothAir(air, how.loss),
                loss=how.loss,
                seed=how.seed + len(running),
            )
            await stack.enter_async_context(fleet)
            running |= dict(zip(of_radio, fleet.boards, strict=True))
        yield House(app, own_server, {name: running[name] for name in names}, sniffer, radio_of, adverts)


@asynccontextmanager
async def _server_elsewhere(
    folder: Path, settings: ServerConfig, gateways: Sequence[GatewayConfig]
) -> AsyncIterator[CpnsServer]:
    """Run a CPNS Server of its own, and let it and the PN GWs of these configurations know each other."""
    server = await CpnsServer.open(folder, settings)
    try:
        for config in gateways:
            trust_server(config, credentials.parse(server.credential(), credentials.ROLE_SERVER))
            identity, _ = own_keys(config)
            server.register_gateway(config.gateway.id, config.gateway.pn, identity.credential.ccs, is_open=True)
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
