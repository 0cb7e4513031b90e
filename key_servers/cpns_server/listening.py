"""The links over which PN GWs reach a CPNS Server, as its configuration says."""

import datetime
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.databases import Foundation
from key_servers.cpns_server.gateway_sessions import GatewaySessions, Handlers
from key_servers.cpns_server.shards.holding import ShardUser
from message_plane.errors import CertificateNotValidNow
from message_plane.identity import OwnIdentity
from message_plane.lease import Lease
from message_plane.links.link import Link
from message_plane.links.mqtt_topics import tag_of
from message_plane.links.udp import UdpLink

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink

_log = logging.getLogger(__name__)


def udp_links(config: ServerConfig) -> list[Link[Any]]:
    """Return the link that listens for UDP; none if the configuration has no address to listen on."""
    return [UdpLink([(host, config.port) for host in config.listen])] if config.listen else []


async def listen(
    config: ServerConfig,
    sessions: GatewaySessions,
    database_id: bytes,
    base: Foundation,
    deliveries: ShardUser,
    handlers: Handlers,
    opened: AsyncExitStack,
    *,
    is_older: bool,
) -> "MqttLink | None":
    """Open the links, and begin to work for shards; return the link over the brokers, None if there are none.

    What is open is added to `opened`. `is_older`: the store may be an older copy, so none of its sessions is used.
    Raises the errors of `mqtt_link`, `GatewaySessions.open` and `ShardHolder.open`.
    """
    mqtt = await mqtt_link(config, sessions.identity, database_id, base.shards.in_use, sessions.counters, base.process)
    await sessions.open(udp_links(config), mqtt, handlers)
    opened.push_async_callback(sessions.close)
    if is_older:
        await sessions.end_sessions()
    opened.push_async_callback(base.shards.close)
    await base.shards.open([sessions, ServedTopics(mqtt, lambda: base.shards.in_use)], deliveries)
    return mqtt


async def mqtt_link(
    config: ServerConfig,
    identity: OwnIdentity,
    database_id: bytes,
    shards: Collection[int],
    counters: Counter[str],
    process: str = "",
) -> "MqttLink | None":
    """Return the link over the brokers, None if the configuration has none. It is not open yet.

    `shards` are those whose PN GWs it hears at first (`ServedTopics`).

    `process` is a name that this process has for itself, if several are one Server. Raises BrokerFilesRefused if the
    files are not those of this Server, AnotherServer if the brokers have another one of this `identity`.
    """
    if not config.mqtt.brokers:
        return None
    from key_servers.cpns_server.server_claim import claim  # a Server without brokers needs no MQTT library
    from message_plane.links import mqtt_files
    from message_plane.links.mqtt import MqttLink

    now = datetime.datetime.now(datetime.UTC)
    try:
        mqtt_files.check(config.mqtt.files, tag_of(config.id), now, is_server=True)
    except CertificateNotValidNow as refused:  # there may be UDP, and the broker tells it, too
        _log.warning("KC2027 %s", refused)
    await claim(config, identity, database_id, process)
    return MqttLink(config.mqtt, config.id, serves=shards, process=process, counters=counters)


class ServedTopics:
    """The subscriptions of a link over brokers, as a user of shards (`shards.holding.ShardUser`)."""

    def __init__(self, link: "MqttLink | None", in_use: Callable[[], Collection[int]]) -> None:
        """`in_use` returns the shards that this process works for now."""
        self._link = link
        self._in_use = in_use

    async def adopt(self, leases: Sequence[Lease]) -> None:
        """Hear the PN GWs of these shards, too."""
        await self._serve()

    async def let_go(self, leases: Sequence[Lease]) -> None:
        """Hear the PN GWs of these shards no more."""
        await self._serve()

    async def _serve(self) -> None:
        if self._link is not None:
            await self._link.serve(self._in_use())
