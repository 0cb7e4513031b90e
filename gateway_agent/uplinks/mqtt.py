"""The uplink to a remote CPNS Server over MQTT: both connect to a broker, and neither needs to know where the other is.

No keep-alive messages are needed. The gateway sends a sign of life whenever it is back at a broker, or the Server is.
"""

import datetime
import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from gateway_agent.uplinks.uplink import UplinkSection
from message_plane.links.mqtt_section import MqttSection

if TYPE_CHECKING:
    from gateway_agent.uplinks.broker_trial import BrokerTrial
    from gateway_agent.uplinks.server_session import ServerSession
    from message_plane.endpoint import Endpoint
    from message_plane.links.mqtt import MqttLink

_log = logging.getLogger(__name__)


class MqttUplinkSection(MqttSection, UplinkSection):
    """The CPNS Server outside of this process, over MQTT."""

    kind: Literal["mqtt"] = Field("mqtt", description="the way to the CPNS Server")

    @model_validator(mode="after")
    def _brokers_where_needed(self) -> "MqttUplinkSection":
        if not self.brokers:
            raise ValueError('kind = "mqtt" needs brokers, for example brokers = ["mqtts://broker.example:8883"]')
        return self


SECTION = MqttUplinkSection


def link_of(section: MqttUplinkSection, gateway_id: str, counters: Counter[str]) -> "MqttLink":
    """Return the link to the brokers. Raises BrokerFilesRefused if they could not let this gateway in.

    A certificate that has expired is logged only, because the boards need the gateway, and its clock may not be set.
    """
    from message_plane.errors import CertificateNotValidNow
    from message_plane.links import mqtt_files
    from message_plane.links.mqtt import MqttLink
    from message_plane.links.mqtt_topics import tag_of

    try:
        mqtt_files.check(section.files, tag_of(gateway_id), datetime.datetime.now(datetime.UTC))
    except CertificateNotValidNow as refused:
        _log.warning("KC1202 the uplink: %s", refused)
    return MqttLink(section, gateway_id, server_id=section.server_id, counters=counters)


async def try_brokers(section: MqttUplinkSection, gateway_id: str) -> "list[BrokerTrial]":
    """Return how each broker treats this PN GW. Raises BrokerFilesRefused."""
    from gateway_agent.uplinks import broker_trial
    from message_plane.links import mqtt_files
    from message_plane.links.mqtt_topics import tag_of

    mqtt_files.check(section.files, tag_of(gateway_id), datetime.datetime.now(datetime.UTC))
    return await broker_trial.try_brokers(section, gateway_id)


def open_uplink(section: MqttUplinkSection, endpoint: "Endpoint", link: "MqttLink") -> "ServerSession":
    """Return the session with the Server that a section names."""
    from gateway_agent.uplinks.server_session import ServerSession
    from message_plane.links.mqtt_topics import place_of

    place = place_of(section.server_id)
    session = ServerSession(endpoint, section.server_id, place, brokers=lambda: link.brokers)

    def hinted(at: str, present: bool) -> None:
        if present and at == place:
            session.say_here()

    link.hints = hinted
    return session
