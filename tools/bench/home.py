"""A home for measurements: a real PN GW with its CPNS Server, and PNEs whose sessions need no handshake.

A thousand handshakes would take a minute and say nothing about deliveries. So the OSCORE contexts that they would make
are drawn at random and put into the PN GW's session store before it starts, as after a restart. Each PNE's first
request is answered with an Echo challenge (RFC 8613, B.1.2); after that the sessions are like any other.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_agent.app import GatewayApp
from gateway_agent.config.load import schema_of
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection, TreeSection
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.observe.onlookers import Onlooker
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.state_files import SESSIONS_FILE, own_keys
from gateway_agent.uplinks.udp import UdpUplinkSection
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.entity_user_keys import EUK_LEN
from key_servers.cpns_server.gateways_in_process import Receiver
from keycast.provisioning.board import Trust, new_board
from keycast.services.home import open_home, straight
from keycast.services.trusted_server import trust_server
from keycast.virtual_board.loopback import own_port
from message_plane import credentials
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, StoredContext

PN_ID, GATEWAY_ID, SG_ID = "home", "gw.home", "home/lights"
END_TO_END_SG_ID = "home/alarm"
GATEWAY_ADDRESS = "127.0.0.1"
EVERYBODY = "127.255.255.255"
SLOTS = 2048  # the PN GW begins a larger tree when fewer than a tenth of the slots are free
_NUMBERS_USED = 64


@dataclass(frozen=True, repr=False)
class PneKeys:
    """The initial state of a simulated PNE: provisioning record, and its session's secrets as the PNE has them.

    Those with an Entity User Key, `euk`, join the end-to-end group too.
    """

    pne_id: str
    provisioning: bytes
    secret: bytes
    salt: bytes
    sender_id: bytes
    recipient_id: bytes
    euk: bytes = b""


@dataclass
class Home:
    """A running home and the PNEs that belong to it. The group SG_ID exists and has no members yet; so does
    END_TO_END_SG_ID where the Server is elsewhere."""

    app: GatewayApp
    server: CpnsServer
    pnes: list[PneKeys]
    gateway: tuple[str, int]
    broadcast_port: int
    onlookers: list[Onlooker]

    def confirmed(self) -> int:
        """Return the number of confirmations with a valid proof that the PN GW has got since it started."""
        return self.app.counters["confirmations"]


@asynccontextmanager
async def build_home(
    folder: Path,
    pnes: int,
    delivery: DeliveryPolicy,
    on_the_way: Callable[[Receiver], Receiver] = straight,
    *,
    slots: int = SLOTS,
    broadcast_port: int = 0,
    elsewhere: bool = False,
    onlookers: Mapping[str, Any] | None = None,
) -> AsyncIterator[Home]:
    """Yield a home with `pnes` PNEs in `folder`. `on_the_way` may wrap the receiver between Server and PN GW.

    Its tree has `slots`, a power of two. If `broadcast_port` is 0, a free port is used. With `elsewhere` the Server is
    one of its own, to which the PN GW has a session over UDP, and all PNEs are provisioned for end-to-end groups.
    `onlookers` has the sections of the configuration that show the PN GW, as parsed from a file.
    """
    port = own_port()
    broadcast_port = broadcast_port or own_port()
    config = schema_of(onlookers or {})(
        gateway=GatewaySection(id=GATEWAY_ID, pn=PN_ID, state_dir=folder / "gateway"),
        message_plane=MessagePlaneSection(listen=[GATEWAY_ADDRESS], port=port, discovery=False),
        broadcast=BroadcastSection(interfaces=["lo"], port=broadcast_port),
        delivery=delivery,
        tree=TreeSection(height=slots.bit_length() - 1),
        **(onlookers or {}),
    )
    identity, signing = own_keys(config)
    trust = Trust(identity.credential, signing.public_key, signing.epoch, PN_ID, f"{GATEWAY_ADDRESS}:{port}")
    made = [new_board(f"lamp.{number}", trust) for number in range(pnes)]
    keys = [
        PneKeys(
            credential.entity_id,
            record,
            secrets.token_bytes(16),
            secrets.token_bytes(8),
            number.to_bytes(3, "big"),
            number.to_bytes(2, "big"),
            secrets.token_bytes(EUK_LEN) if elsewhere else b"",
        )
        for number, (record, credential) in enumerate(made)
    ]
    sessions = SessionFile(folder / "gateway" / SESSIONS_FILE)
    for _, credential in made:
        sessions.register(credential)
    lease = sessions.acquire(identity.x)
    sessions.commit(
        {lease: [AddContext(_stored(each), credential) for each, (_, credential) in zip(keys, made, strict=True)]}
    )
    sessions.release(lease)
    sessions.close()

    server_config = ServerConfig(rekey_on_join=False, batching_s=0)
    async with AsyncExitStack() as stack:
        server = None
        if elsewhere:
            server_config = server_config.model_copy(update={"listen": [GATEWAY_ADDRESS], "port": own_port()})
            server = await stack.enter_async_context(_server_elsewhere(folder / "server", server_config, config, keys))
            uplink = UdpUplinkSection(host=GATEWAY_ADDRESS, port=server_config.port, server_id=server_config.id)
            config = config.model_copy(update={"uplink": uplink})
        home = await stack.enter_async_context(open_home(config, server_config=server_config, on_the_way=on_the_way))
        app, server = home.app, server or home.server
        assert server is not None  # the default uplink has one
        server.create_group(SG_ID, open_to=[PN_ID])
        for each in keys:
            app.gateway.administration.register_pne(each.pne_id)
        await home.start()
        yield Home(app, server, keys, (GATEWAY_ADDRESS, port), broadcast_port, home.onlookers)


@asynccontextmanager
async def _server_elsewhere(
    folder: Path, settings: ServerConfig, gateway: GatewayConfig, pnes: list[PneKeys]
) -> AsyncIterator[CpnsServer]:
    """Run a CPNS Server that knows the PN GW of the configuration `gateway` and the PNEs, and has a group for them."""
    server = await CpnsServer.open(folder, settings)
    try:
        trust_server(gateway, credentials.parse(server.credential(), credentials.ROLE_SERVER))
        identity, _ = own_keys(gateway)
        server.register_gateway(GATEWAY_ID, PN_ID, identity.credential.ccs, is_open=True)
        for each in pnes:
            server.admit_pne(each.pne_id, PN_ID, entity_user_key=each.euk)
        server.create_group(END_TO_END_SG_ID, open_to=[PN_ID], trust="end-to-end")
        server.start()
        yield server
    finally:
        await server.close()


def _stored(keys: PneKeys) -> StoredContext:
    """Return the PN GW's side of a session, as its store keeps it."""
    return StoredContext(
        recipient_id=keys.sender_id,
        sender_id=keys.recipient_id,
        entity_id=keys.pne_id,
        master_secret=keys.secret,
        master_salt=keys.salt,
        established=int(time.time()),
        sender_ceiling=_NUMBERS_USED,
    )
