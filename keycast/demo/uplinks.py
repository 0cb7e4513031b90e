"""The ways between the PN GWs of a demo and a CPNS Server elsewhere: UDP on loopback, or a Mosquitto of its own."""

import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_agent.uplinks.mqtt import MqttUplinkSection
from gateway_agent.uplinks.udp import UdpUplinkSection
from gateway_agent.uplinks.uplink import UplinkSection
from keycast.broker import own_broker
from keycast.broker.folder import BROKERS, CA, CERTIFICATE, CONFIGURATION, GATEWAYS, KEY, SERVER, WantedFiles, bring_up
from keycast.free_ports import free_port
from keycast.virtual_board.loopback import GATEWAY_ADDRESS, own_port
from message_plane.links.mqtt_section import MqttSection

EMBEDDED, UDP, MQTT = "embedded", "udp", "mqtt"
_HOST = "localhost"


@dataclass(frozen=True)
class OpenWay:
    """`settings`: what the configuration of the Server says of it; `section_of`: that of a PN GW, by its entity ID."""

    settings: dict[str, Any]
    section_of: Callable[[str], UplinkSection]


@asynccontextmanager
async def open_way(kind: str, folder: Path, server_id: str, gateway_ids: Sequence[str]) -> AsyncIterator[OpenWay]:
    """Open the way of this kind (UDP or MQTT) until the block ends, with its files in `folder`.

    Raises NoBroker where a Mosquitto is needed and there is none.
    """
    if kind == UDP:
        port = own_port()
        section = UdpUplinkSection(host=GATEWAY_ADDRESS, port=port, server_id=server_id)
        yield OpenWay({"listen": [GATEWAY_ADDRESS], "port": port}, lambda _: section)
        return
    own_broker.mosquitto()  # before anything is made
    port = free_port()
    files = WantedFiles(
        server_id=server_id, brokers=[[_HOST, own_broker.LOOPBACK]], port=port, gateways=gateway_ids, has_authority=True
    )
    register = bring_up(folder, files, datetime.datetime.now(datetime.UTC)).register
    configuration = folder / BROKERS / register.brokers[0].folder / CONFIGURATION
    folders = {entry.gateway_id: folder / GATEWAYS / entry.folder for entry in register.gateways}
    brokers = [register.brokers[0].url]

    def files_in(client: Path) -> dict[str, Any]:
        return {"brokers": brokers, "ca": client / CA, "certificate": client / CERTIFICATE, "key": client / KEY}

    def section_of(gateway_id: str) -> UplinkSection:
        return MqttUplinkSection(server_id=server_id, **files_in(folders[gateway_id]))

    async with own_broker.running(configuration, port):
        yield OpenWay({"mqtt": MqttSection(**files_in(folder / SERVER))}, section_of)
