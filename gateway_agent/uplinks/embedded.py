"""The uplink to a CPNS Server in the gateway's process: each calls the other's handler with the octets of a message."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, NoReturn

from pydantic import Field

from cpns.errors import CpnsError, MalformedMessage
from gateway_agent.config.section import Section
from gateway_agent.core.ports import NoAnswer, NotUnderstood
from gateway_agent.errors import GatewayError
from gateway_agent.uplinks.uplink import UplinkSection

if TYPE_CHECKING:
    from gateway_agent.uplinks.broker_trial import BrokerTrial
    from message_plane.endpoint import Endpoint


class EmbeddedSection(UplinkSection):
    """The CPNS Server in this process."""

    kind: Literal["embedded"] = Field("embedded", description="the way to the CPNS Server")


class GroupsSection(Section):
    """The settings of the embedded CPNS Server (kind = "embedded" only)."""

    rekey_on_join: bool = Field(True, description="a newcomer cannot read the past")
    period_s: int = Field(0, ge=0, description="seconds between periodic updates, at least 60; 0 = none")


SECTION = EmbeddedSection


def link_of(section: EmbeddedSection, gateway_id: str, counters: Counter[str]) -> None:
    """Return None, as nothing leaves the process."""


async def try_brokers(section: EmbeddedSection, gateway_id: str) -> "list[BrokerTrial]":
    """Return [], as no broker is needed."""
    return []


def open_uplink(section: EmbeddedSection, endpoint: "Endpoint", link: None) -> NoReturn:
    """Raise GatewayError, as the code that makes the Server must also make this uplink (`InProcessUplink`)."""
    raise GatewayError(
        f"The CPNS Server {section.server_id} is not in this process.",
        "Run the gateway by its command, or set uplink.kind to that of a Server elsewhere.",
    )


class InProcessUplink:
    """Implements `core.ports.Uplink` for a CPNS Server in the same process."""

    def __init__(self, handle: Callable[[bytes], Awaitable[bytes]]) -> None:
        """`handle` is the Server's handler of messages of this PN GW; it raises CpnsError."""
        self._handle = handle

    async def request(self, message: bytes) -> bytes:
        """Return the Server's answer. Raises NoAnswer, NotUnderstood if the handler refuses the request as a whole."""
        try:
            return await self._handle(message)
        except MalformedMessage as error:
            raise NotUnderstood(f"the CPNS Server refused: {error.reason}") from None
        except CpnsError as error:
            raise NoAnswer(f"the CPNS Server refused: {error.reason}") from None
