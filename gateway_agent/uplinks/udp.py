"""The uplink to a remote CPNS Server over UDP: a session with it, and keep-alive messages for routers on the path."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway_agent.config.section import Host, Port
from gateway_agent.uplinks.uplink import UplinkSection

if TYPE_CHECKING:
    from gateway_agent.uplinks.broker_trial import BrokerTrial
    from gateway_agent.uplinks.server_session import ServerSession
    from message_plane.endpoint import Endpoint

KEEP_ALIVE_MIN_S, KEEP_ALIVE_MAX_S = 1, 3600


def _keep_alive(seconds: float) -> float:
    if 0 < seconds < KEEP_ALIVE_MIN_S:
        raise ValueError(f"0 for none, or at least {KEEP_ALIVE_MIN_S} s: more would only load the Server")
    return seconds


class UdpUplinkSection(UplinkSection):
    """The CPNS Server outside of this process, over UDP."""

    kind: Literal["udp"] = Field("udp", description="the way to the CPNS Server")
    host: Host | None = Field(None, description="address of the CPNS Server (kind = udp)")
    port: Port = Field(5685, description="UDP port of the CPNS Server (kind = udp)")
    keep_alive_s: Annotated[float, Field(ge=0, le=KEEP_ALIVE_MAX_S), AfterValidator(_keep_alive)] = Field(
        25, description="seconds between messages that keep a router's way to the Server open, 0 = none (kind = udp)"
    )

    @model_validator(mode="after")
    def _host_where_needed(self) -> "UdpUplinkSection":
        if not self.host:
            raise ValueError('kind = "udp" needs host, for example host = "192.168.1.10"')
        return self


SECTION = UdpUplinkSection


def link_of(section: UdpUplinkSection, gateway_id: str, counters: Counter[str]) -> None:
    """Return None, as the link to the boards leads to the Server too."""


async def try_brokers(section: UdpUplinkSection, gateway_id: str) -> "list[BrokerTrial]":
    """Return [], as no broker is needed."""
    return []


def open_uplink(section: UdpUplinkSection, endpoint: "Endpoint", link: None) -> "ServerSession":
    """Return the session with the Server that a section names."""
    from gateway_agent.uplinks.server_session import ServerSession
    from message_plane.links.udp import place_of

    place = place_of(section.host or "", section.port)
    return ServerSession(endpoint, section.server_id, place, section.keep_alive_s)
