"""The contract of an uplink: what every kind of it has in the configuration, and does."""

from typing import Protocol

from pydantic import Field

from gateway_agent.config.section import EntityId, Section


class UplinkSection(Section):
    """The CPNS Server: in this process, or beside it over UDP."""

    kind: str = Field("embedded", description="the way to the CPNS Server")
    server_id: EntityId = Field("server.local", description="entity ID of the CPNS Server")


class OpenUplink(Protocol):
    """`core.ports.Uplink` with a beginning and an end."""

    async def request(self, message: bytes) -> bytes:
        """Send one CPNS message and return the Server's answer. Raises NoAnswer."""
        ...

    def start(self) -> None:
        """Begin to do what the uplink does by itself."""
        ...

    async def close(self) -> None:
        """End that."""
        ...
