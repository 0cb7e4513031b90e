"""The links over which PN GWs reach a CPNS Server, as its configuration says."""

import datetime
from collections import Counter
from typing import TYPE_CHECKING, Any

from key_servers.cpns_server.config import ServerConfig
from message_plane.identity import OwnIdentity
from message_plane.links import mqtt_files
from message_plane.links.link import Link
from message_plane.links.mqtt_topics import SHARDS, tag_of
from message_plane.links.udp import UdpLink

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink


def udp_links(config: ServerConfig) -> list[Link[Any]]:
    """Return the link that listens for UDP; none if the configuration has no address to listen on."""
    return [UdpLink([(host, config.port) for host in config.listen])] if config.listen else []


async def mqtt_link(
    config: ServerConfig, identity: OwnIdentity, database_id: bytes, counters: Counter[str], process: str = ""
) -> "MqttLink | None":
    """Return the link over the brokers, None if the configuration has none. It is not open yet.

    `process` is a name that this process has for itself, if several are one Server. Raises BrokerFilesRefused if the
    files are not those of this Server, AnotherServer if the brokers have another one of this `identity`.
    """
    if not config.mqtt.brokers:
        return None
    from key_servers.cpns_server.server_claim import claim  # a Server without brokers needs no MQTT library
    from message_plane.links.mqtt import MqttLink

    now = datetime.datetime.now(datetime.UTC)
    mqtt_files.check(config.mqtt.files, tag_of(config.id), now, is_server=True)
    await claim(config, identity, database_id)
    return MqttLink(config.mqtt, config.id, serves=range(SHARDS), process=process, counters=counters)
