"""The contract of an uplink: its section of the configuration and its methods, for every kind."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from gateway_agent.config.section import EntityId, Section

if TYPE_CHECKING:
    from message_plane.links.mqtt_brokers import BrokerState


class UplinkSection(Section):
    """The CPNS Server: in this process, or outside of it over UDP or MQTT."""

    kind: str = Field("embedded", description="the way to the CPNS Server")
    server_id: EntityId = Field("server.local", description="entity ID of the CPNS Server")


class OpenUplink(Protocol):
    """A `core.ports.Uplink` that is started and closed."""

    @property
    def brokers(self) -> "Sequence[BrokerState]":
        """The brokers on the way to the Server, connected or not; none if the link needs none."""
        ...

    async def request(self, message: bytes) -> bytes:
        """Send one CPNS message and return the Server's answer, b"" if it is empty. Raises NoAnswer."""
        ...

    def start(self) -> None:
        """Start the background work of the uplink, if it has any."""
        ...

    async def close(self) -> None:
        """Stop the background work."""
        ...
