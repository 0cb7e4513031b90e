"""A Mosquitto for measurements, on the loopback network: with TLS and `broker-files`, or without."""

import datetime
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keycast.broker import mosquitto, own_broker
from keycast.broker.folder import (
    ACCESS_LIST,
    BROKERS,
    CA,
    CERTIFICATE,
    CONFIGURATION,
    GATEWAYS,
    KEY,
    WantedFiles,
    bring_up,
    server_folder,
)
from keycast.free_ports import free_port
from message_plane.links.mqtt_section import Broker, MqttSection, broker_of
from message_plane.links.mqtt_topics import tag_of
from tools.bench.fleet import SERVER_ID

_OF_TLS = ("tls_version", "cafile", "certfile", "keyfile", "crlfile", "require_certificate", "use_", "allow_anonymous")


@dataclass(frozen=True)
class BrokerPlan:
    """A broker that may be started, more than once.

    `folders` are those with the files of the PN GWs, in their order, None without TLS.
    """

    configuration: Path
    broker: Broker
    sections: Sequence[MqttSection]
    folders: list[Path] | None

    def running(self) -> "AbstractAsyncContextManager[Any]":
        """Run it (`own_broker.running`). Raises NoBroker."""
        return own_broker.running(self.configuration, self.broker.port)


def with_tls(folder: Path, gateway_ids: Sequence[str], processes: int) -> BrokerPlan:
    """Make all files in `folder` as an operator does. Raises NoBroker.

    There are sections, and certificates, for so many `processes` of the Server.
    """
    own_broker.mosquitto()
    port = free_port()
    wanted = WantedFiles(
        server_id=SERVER_ID,
        brokers=[["localhost", own_broker.LOOPBACK]],
        port=port,
        processes=processes,
        gateways=gateway_ids,
        has_authority=True,
    )
    register = bring_up(folder, wanted, datetime.datetime.now(datetime.UTC)).register
    url = register.brokers[0].url
    folders = {entry.gateway_id: folder / GATEWAYS / entry.folder for entry in register.gateways}
    sections = []
    for number in range(1, processes + 1):
        own = folder / server_folder(number)
        sections.append(MqttSection(brokers=[url], ca=own / CA, certificate=own / CERTIFICATE, key=own / KEY))
    return BrokerPlan(
        folder / BROKERS / register.brokers[0].folder / CONFIGURATION,
        broker_of(url),
        sections,
        [folders[gateway_id] for gateway_id in gateway_ids],
    )


def plain(folder: Path, *, has_access_list: bool = True) -> BrokerPlan:
    """Make the files of the same broker without TLS, where all clients say their names. Raises NoBroker.

    Without an access list every client may do everything.
    """
    own_broker.mosquitto()
    port = free_port()
    folder.mkdir()
    lines = mosquitto.configuration(PurePosixPath(folder), port, True).splitlines()
    dropped = _OF_TLS if has_access_list else (*_OF_TLS, "acl_file")
    kept = [line for line in lines if not line.startswith(dropped)]
    (folder / CONFIGURATION).write_text("\n".join([*kept, "allow_anonymous true", ""]))
    (folder / ACCESS_LIST).write_text(mosquitto.access_list(tag_of(SERVER_ID), [tag_of(SERVER_ID)], []))
    url = f"mqtt://{own_broker.LOOPBACK}:{port}"
    section = MqttSection(brokers=[url], user=tag_of(SERVER_ID))
    return BrokerPlan(folder / CONFIGURATION, broker_of(url), [section], None)
