"""Homes and a CPNS Server that meet at real brokers: gateways as `keycast gateway run` makes them, without radios."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cpns import messages, numbers
from gateway_agent.config.load import load
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.core.pn_gateway import PnGateway
from gateway_agent.state_files import own_keys
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.free_ports import free_port
from keycast.services import trusted_server
from keycast.services.home import Home, open_home
from message_plane import credentials
from message_plane.links.mqtt_section import MqttSection
from message_plane.links.mqtt_topics import tag_of
from tests.unit.mosquitto_broker import ACCESS, Mosquitto

SERVER_ID, SG = "cpns.example", "street/lights"
RULES = ACCESS.format(server=tag_of(SERVER_ID))


class Operator:
    """A CPNS Server in `folder`, reached over `brokers`; `running` is one run of it."""

    def __init__(self, folder: Path, brokers: Sequence[Mosquitto], **settings: Any) -> None:
        self.folder = folder
        mqtt = MqttSection(brokers=[broker.url for broker in brokers], **self_proof(brokers, SERVER_ID))
        self.config = ServerConfig(id=SERVER_ID, mqtt=mqtt, batching_s=0, **settings)
        self.server: CpnsServer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CpnsServer]:
        self.server = await CpnsServer.open(self.folder, self.config)
        self.server.start()
        try:
            yield self.server
        finally:
            await self.server.close()

    def sees(self, home: "MqttHome") -> bool | None:
        """What the brokers tell the Server: whether this gateway is there."""
        link = self.server._broker_watch.link
        assert link is not None
        return link.is_present(link.place_of(home.gateway_id))


class MqttHome:
    """A PN GW of the PN `pn.NAME`, whose uplink goes over `brokers`; `running` is one run of it."""

    def __init__(self, folder: Path, name: str, brokers: Sequence[Mosquitto]) -> None:
        self.gateway_id, self.pn_id = f"gw.{name}", f"pn.{name}"
        folder.mkdir(exist_ok=True)
        urls = ", ".join(f'"{broker.url}"' for broker in brokers)
        proof = "".join(f'{key} = "{value}"\n' for key, value in self_proof(brokers, self.gateway_id).items())
        self.path = folder / "keycast.toml"
        self.path.write_text(
            f'[gateway]\nid = "{self.gateway_id}"\npn = "{self.pn_id}"\nstate_dir = "state"\n'
            f'[message_plane]\nlisten = ["127.0.0.1"]\nport = {free_port()}\ndiscovery = false\n'
            "[broadcast]\ninterfaces = []\n"
            f'[uplink]\nkind = "mqtt"\nserver_id = "{SERVER_ID}"\nbrokers = [{urls}]\n{proof}'
        )
        self.home: Home

    @property
    def config(self) -> GatewayConfig:
        return load(self.path)

    def meet(self, server: CpnsServer, **how: Any) -> None:
        """Each of the two is told the credential of the other, as by two operators."""
        trusted_server.trust_server(self.config, credentials.parse(server.credential(), "server"))
        own, _ = own_keys(self.config)
        server.register_gateway(self.gateway_id, self.pn_id, own.credential.ccs, is_open=True, **how)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Home]:
        async with open_home(self.config) as self.home:
            await self.home.start()
            yield self.home

    def has(self, gateway: PnGateway) -> bool:
        """Whether this is the core of its PN GW in the newest run."""
        return "home" in vars(self) and self.home.app.gateway is gateway

    async def join(self, pne_id: str, sg_id: str = SG, code: int = numbers.JOIN_REQUEST) -> str:
        """A board of this home joins; returns the Result of the answer."""
        self.home.app.gateway.administration.register_pne(pne_id)
        return await self._ask(pne_id, code, sg_id)

    async def leave(self, pne_id: str, sg_id: str = SG) -> str:
        return await self._ask(pne_id, numbers.LEAVE_REQUEST, sg_id)

    def version(self, sg_id: str = SG) -> int:
        """The version of the Group Key that the gateway holds, 0 for none."""
        store = self.home.app._store
        assert store is not None
        newest = store.group_keys.newest(sg_id)
        return 0 if newest is None else newest.version

    async def _ask(self, pne_id: str, code: int, sg_id: str) -> str:
        octets = messages.encode(code, {messages.PNE_ID: pne_id, messages.SG_ID: sg_id})
        answer = await self.home.app.gateway.handle_pne(pne_id, octets)
        assert answer is not None
        return str(messages.decode(answer)[1][messages.RESULT])


def self_proof(brokers: Sequence[Mosquitto], entity_id: str) -> dict[str, Any]:
    """The settings by which an entity proves itself: a certificate of the brokers' authority, or a mere name."""
    authority = brokers[0].authority
    if authority is None:
        return {"user": tag_of(entity_id)}
    certificate, key = authority.issue(tag_of(entity_id))
    return {"ca": authority.ca, "certificate": certificate, "key": key}
