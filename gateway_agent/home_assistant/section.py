"""The section `[mqtt]`: the broker of Home Assistant, and what may be done over it.

This module imports no MQTT library, because every command that reads a configuration needs it.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway_agent.config.section import Section
from message_plane.links.mqtt_section import BrokerFiles, PemFile, Url, broker_of

_REFUSED = "#+\0"


def _topic(text: str) -> str:
    levels = text.split("/")
    if not all(levels) or any(each in text for each in _REFUSED) or text.startswith("$") or len(text) > 100:
        raise ValueError('a topic without wildcards, for example "keycast"')
    return text


Topic = Annotated[str, AfterValidator(_topic)]


class HomeAssistantSection(Section):
    """Home Assistant over MQTT."""

    broker: Url = Field("mqtt://127.0.0.1:1883", description="MQTT broker of Home Assistant, as mqtt://host:port")
    user: str = Field("", max_length=256, description="user name at the broker; none: nobody asks for one")
    password_file: PemFile | None = Field(None, description="file with the password of that user, mode 0600")
    ca: PemFile | None = Field(None, description="PEM file with the CA of the broker; none: those of the system")
    certificate: PemFile | None = Field(None, description="PEM file with a certificate of this gateway")
    key: PemFile | None = Field(None, description="PEM file with the key of that certificate")
    plain: bool = Field(False, description="send the password to another machine without TLS")
    prefix: Topic = Field("keycast", description="topic below which the states are")
    discovery: Topic = Field("homeassistant", description="topic of Home Assistant's discovery")
    allow: list[Literal["update", "permit", "expel", "delete"]] = Field(
        ["update"], description="commands that whoever is let in by the broker may give: update, permit, expel, delete"
    )

    @property
    def files(self) -> BrokerFiles:
        """The files with which the gateway proves itself to the broker."""
        return BrokerFiles(self.ca, self.certificate, self.key, self.password_file)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: name both or none")
        if self.password_file is not None and not self.user:
            raise ValueError("a password needs a user: name the user, too")
        broker = broker_of(self.broker)
        if self.password_file is not None and not (broker.tls or broker.is_local or self.plain):
            raise ValueError(
                f"{broker} is not encrypted, and the password could be read on the way; write mqtts://, or "
                "plain = true if everybody in this network may read it"
            )
        return self
