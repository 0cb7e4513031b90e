"""The settings of the link over MQTT: which brokers there are, and how this end proves itself to them.

This module imports neither an MQTT library nor cryptography, because every command that reads a configuration needs it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

_URL = re.compile(r"(mqtts?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?")
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker: `host`, a name or an address, and TCP `port`; `tls` is True for `mqtts`. Its text is its URL."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True if the connection does not leave this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def broker_of(url: str) -> Broker:
    """Return the broker at `url`, `mqtts://host:port` or `mqtt://host:port`; the port may be left out.

    Raises ValueError, whose text says what is expected, after "is not".
    """
    found = _URL.fullmatch(url)
    port = int(found[4] or _PORTS[found[1]]) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError("the address of a broker, for example mqtts://broker.example:8883")
    return Broker(found[2] or found[3], port, found[1] == "mqtts")


def _url(text: str) -> str:
    return str(broker_of(text))


def _each_once(urls: list[str]) -> list[str]:
    if len(set(urls)) < len(urls):
        raise ValueError("each broker once")
    return urls


def _beside_the_configuration(path: Path, info: ValidationInfo) -> Path:
    if not str(path).strip() or "\0" in str(path):
        raise ValueError("the name of a file")
    try:
        folder: Path = Path() if info.context is None else info.context["folder"]
        return folder / path.expanduser()
    except RuntimeError:
        raise ValueError(f"the home folder {path.parts[0]} is not known, write the whole path") from None


Url = Annotated[str, AfterValidator(_url)]
PemFile = Annotated[Path, Field(strict=False), AfterValidator(_beside_the_configuration)]


@dataclass(frozen=True)
class BrokerFiles:
    """The files of one client, in PEM: `ca` verifies the broker, `certificate` and `key` prove this end to it.

    `password` holds the password of a broker that asks for one. Each is None where it is not used.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password: Path | None = None


class MqttSection(BaseModel):
    """The brokers over which this end is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    brokers: Annotated[list[Url], AfterValidator(_each_once)] = Field(
        [], description="MQTT brokers, each as mqtts://host:port; one that answers is enough (kind = mqtt)"
    )
    ca: PemFile | None = Field(
        None, description="PEM file with the CA of the brokers; none: those of the system (kind = mqtt)"
    )
    certificate: PemFile | None = Field(None, description="PEM file with the certificate of this end (kind = mqtt)")
    key: PemFile | None = Field(None, description="PEM file with the key of that certificate (kind = mqtt)")
    user: str = Field("", description="user name, where certificates are not used; none: the tag (kind = mqtt)")
    password_file: PemFile | None = Field(None, description="file with the password of that user (kind = mqtt)")
    version: Literal["5", "3.1.1"] = Field(
        "5", description="of MQTT; brokers without 5 are spoken to in 3.1.1 (kind = mqtt)"
    )

    @property
    def files(self) -> BrokerFiles:
        """The files with which this end proves itself."""
        return BrokerFiles(self.ca, self.certificate, self.key, self.password_file)

    @model_validator(mode="after")
    def _complete(self) -> MqttSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: name both or none")
        plain = [broker for broker in map(broker_of, self.brokers) if not (broker.tls or broker.is_local)]
        if plain and (self.certificate is not None or self.password_file is not None):
            raise ValueError(
                f"{plain[0]} is not encrypted: no certificate is used there, and a password could be read on the way; "
                "write mqtts://"
            )
        return self
