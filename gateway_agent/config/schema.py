"""The gateway's configuration: one schema for the file, its errors, and its documentation."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cpns import tuning
from gateway_agent.config.section import Port, Section
from gateway_agent.radios.udp_broadcast import BroadcastSection
from message_plane.links.udp import UdpSection

KEEP_ALIVE_MIN_S, KEEP_ALIVE_MAX_S = 1, 3600

EntityId = Annotated[str, Field(min_length=1, max_length=tuning.CREDENTIAL_ID_MAX)]
PnId = Annotated[str, Field(min_length=1, max_length=tuning.ENTITY_ID_MAX)]


def _folder(name: Any) -> Any:
    """Before it is a path: an empty one would be the folder of the file, and no path has a NUL in it."""
    if isinstance(name, str) and (not name.strip() or "\0" in name):
        raise ValueError('the name of a folder, for example "keycast-state"')
    return name


def _keep_alive(seconds: float) -> float:
    if 0 < seconds < KEEP_ALIVE_MIN_S:
        raise ValueError(f"0 for none, or at least {KEEP_ALIVE_MIN_S} s: more would only load the Server")
    return seconds


Folder = Annotated[Path, Field(strict=False), BeforeValidator(_folder)]


class GatewaySection(Section):
    """Who this gateway is."""

    id: EntityId = Field(description="entity ID of this PN GW, unique in the home")
    pn: PnId = Field(description="ID of the Personal Network it serves")
    state_dir: Folder = Field(description="folder for keys, sessions and inventory; created with mode 0700")


class MessagePlaneSection(UdpSection):
    """Where boards reach the gateway."""

    discovery: bool = Field(True, description="announce by mDNS and answer CoAP discovery")


class DeliverySection(Section):
    """How Group Keys reach the members (CPNS-GKM-11..13, 67)."""

    method: Literal["auto", "unicast", "broadcast"] = "auto"
    unicast_up_to: Annotated[int, Field(ge=0, le=64)] = Field(2, description="auto: members reached by unicast instead")
    datagrams_max: Annotated[int, Field(ge=1, le=1024)] = Field(8, description="auto: datagrams of one broadcast round")
    leisure_ms_per_pne: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="confirmations are spread over this many milliseconds for each member"
    )


class TreeSection(Section):
    """The tree of GKDKs."""

    height: Annotated[int, Field(ge=2, le=11)] = Field(10, description="2**height slots in a generation")


class GroupsSection(Section):
    """What the embedded CPNS Server does (kind = "embedded" only)."""

    rekey_on_join: bool = Field(True, description="a newcomer cannot read the past")
    period_s: Annotated[int, Field(ge=0)] = Field(
        0, description="seconds between periodic updates, at least 60; 0 = none"
    )


class UplinkSection(Section):
    """The CPNS Server: in this process, or beside it over UDP."""

    kind: Literal["embedded", "udp"] = "embedded"
    server_id: EntityId = "server.local"
    host: str | None = Field(None, description="address of the CPNS Server (kind = udp)")
    port: Port = Field(5685, description="UDP port of the CPNS Server (kind = udp)")
    keep_alive_s: Annotated[float, Field(ge=0, le=KEEP_ALIVE_MAX_S), AfterValidator(_keep_alive)] = Field(
        25, description="seconds between messages that keep a router's way to the Server open, 0 = none (kind = udp)"
    )

    @model_validator(mode="after")
    def _host_where_needed(self) -> "UplinkSection":
        if self.kind == "udp" and not self.host:
            raise ValueError('kind = "udp" needs host, for example host = "192.168.1.10"')
        return self


class GatewayConfig(Section):
    """The whole file."""

    gateway: GatewaySection
    message_plane: MessagePlaneSection = MessagePlaneSection()
    broadcast: BroadcastSection = BroadcastSection()
    delivery: DeliverySection = DeliverySection()
    tree: TreeSection = TreeSection()
    groups: GroupsSection = GroupsSection()
    uplink: UplinkSection = UplinkSection()
    seal: Any = Field(None, description="group master keys by MIKEY-SAKKE: a `seal.app.SealConfig`")
