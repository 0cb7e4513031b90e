"""The section `[broadcast]`. This module imports nothing of the medium, because every command that reads a
configuration needs it."""

from pydantic import Field

from cpns import numbers
from gateway_agent.config.section import Port, Section


class BroadcastSection(Section):
    """The IP networks that broadcast objects are sent on."""

    interfaces: list[str] = Field(
        ["auto"], description='interface names, "auto" for every one that boards can be behind; [] for none'
    )
    port: Port = Field(numbers.PORT_BROADCAST, description="UDP port of the broadcast plane")
