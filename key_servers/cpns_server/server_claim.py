"""Finds a second CPNS Server with the same identity and another database, before it does harm (SEC-03).

Such a Server would give one version to two keys. It exists where a state folder was copied, or its key was put beside a
new database. Each database has a random number, which the Server leaves at every broker, retained, with a MAC under a
key of its identity, so that nobody else can make one up. A Server that finds another number while somebody is present
in its name does not start.
"""

import asyncio
import hmac
import logging
import shlex
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from cpns.crypto.hkdf import hkdf
from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import ServerError
from message_plane.identity import OwnIdentity
from message_plane.links import mqtt_topics
from message_plane.links.mqtt_client import HERE, means_of
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_section import Broker, broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble

_log = logging.getLogger(__name__)

ID_LEN = 16
_MAC_LEN = 16


class AnotherServer(ServerError):
    """Another CPNS Server of this identity is at work, with another database."""


async def claim(config: ServerConfig, identity: OwnIdentity, database_id: bytes, process: str = "") -> None:
    """Leave the number of this database at all brokers of `config` that can be reached.

    `process` is the name of this process, if several are one Server. Raises AnotherServer if another number is at one
    of the brokers, and a Server is present there.
    """
    await asyncio.gather(
        *(_claim(broker_of(url), config, identity, database_id, process) for url in config.mqtt.brokers)
    )


async def _claim(broker: Broker, config: ServerConfig, identity: OwnIdentity, database_id: bytes, process: str) -> None:
    """Do the same at one broker. One that cannot be used is told by the link, too, and is no reason not to start."""
    topic = mqtt_topics.database(mqtt_topics.tag_of(config.id))
    presence = mqtt_topics.presence(mqtt_topics.tag_of(config.id))
    found: dict[str, bytes] = {}
    read, present = asyncio.Event(), asyncio.Event()

    def arrived(at: str, payload: bytes, retained: bool) -> None:
        if at == presence:
            if payload == HERE:
                present.set()
        elif at == topic and payload:
            found[at] = payload
        elif at == topic:
            read.set()  # this end's own message, after all that the broker had kept

    connection = BrokerConnection(
        broker,
        means_of(config.mqtt, config.id, f"{process}claim"),
        arrived,
        lambda _: None,
        Counter(),
        is_5=False,
        clean=True,
    )
    try:
        await connection.open()
        await connection.subscribe([topic, presence])
        connection.keep(topic, b"", retain=False)
        await _any_of(tuning.CLAIM_READ_S, read.wait())
        other = _number(identity, found.get(topic, b""))
        if other not in (None, database_id):
            # A broker that knows clients by their certificates has ended the connection of the other Server for this
            # one. It comes back, and then ends this one.
            back_s = tuning.CLAIM_BACK_S
            _log.warning(
                "KC2031 %s knows this Server with another database: looking for %d s whether one runs", broker, back_s
            )
            if await _any_of(back_s, present.wait(), connection.lost()):
                raise _another(broker, config, topic)
        connection.keep(topic, database_id + _mac(identity, database_id))
    except BrokerTrouble as trouble:
        _log.info("a second CPNS Server cannot be looked for there: %s", trouble)
    finally:
        await connection.close()


async def _any_of(most_s: float, *events: Coroutine[Any, Any, object]) -> bool:
    """Wait until one of `events` has happened, at most so many seconds; return whether one has."""
    waits = [asyncio.create_task(event) for event in events]
    done, rest = await asyncio.wait(waits, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
    for each in rest:
        each.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return bool(done)


def _another(broker: Broker, config: ServerConfig, topic: str) -> AnotherServer:
    return AnotherServer(
        f"Another CPNS Server called {config.id} is connected to {broker}, with another database: its versions and "
        "those of this one would collide.",
        "Stop one of them. If none runs, start this one in two minutes, when the broker has noticed that, or at once "
        f"after: {_forgetting(broker, config, topic)}",
    )


def _forgetting(broker: Broker, config: ServerConfig, topic: str) -> str:
    """Return the command by which the broker forgets what a Server has left there."""
    own = config.mqtt.files
    paths = (("--cafile", own.ca), ("--cert", own.certificate), ("--key", own.key))
    proof = [word for option, path in paths if path is not None and broker.tls for word in (option, str(path))]
    return shlex.join(["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), *proof, "-r", "-n", "-t", topic])


def _number(identity: OwnIdentity, payload: bytes) -> bytes | None:
    """Return the number in what a Server has left, None if it was not one of this identity."""
    number, mac = payload[:ID_LEN], payload[ID_LEN:]
    return number if hmac.compare_digest(mac, _mac(identity, number)) else None


def _mac(identity: OwnIdentity, number: bytes) -> bytes:
    key = hkdf(identity.private_octets(), b"keycast/database/1", 32)
    return hmac.digest(key, number, "sha256")[:_MAC_LEN]
