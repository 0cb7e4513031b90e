"""The schema of the gateway's configuration, for the file, its errors and its documentation."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from gateway_agent.config.section import EntityId, PnId, Section
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.gkdk.generations import HEIGHT_MAX, HEIGHT_MIN
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.updates.section import UpdateSection
from gateway_agent.uplinks.embedded import EmbeddedSection, GroupsSection
from gateway_agent.uplinks.uplink import UplinkSection
from message_plane.links.udp_section import UdpSection


def _folder(name: Any) -> Any:
    """Raise ValueError for an empty name, which would mean the folder of the file, and for a name with NUL in it."""
    if isinstance(name, str) and (not name.strip() or "\0" in name):
        raise ValueError('the name of a folder, for example "keycast-state"')
    return name


Folder = Annotated[Path, Field(strict=False), BeforeValidator(_folder)]


class GatewaySection(Section):
    """The identity of this gateway."""

    id: EntityId = Field(description="entity ID of this PN GW, unique in the home")
    pn: PnId = Field(description="ID of the Personal Network it serves")
    state_dir: Folder = Field(description="folder for keys, sessions and inventory; created with mode 0700")


class MessagePlaneSection(UdpSection):
    """The addresses at which boards reach the gateway."""

    discovery: bool = Field(True, description="announce by mDNS and answer CoAP discovery")


class TreeSection(Section):
    """The tree of GKDKs."""

    height: int = Field(10, ge=HEIGHT_MIN, le=HEIGHT_MAX, description="2**height slots in a generation")


class GatewayConfig(Section):
    """The whole configuration file."""

    gateway: GatewaySection
    message_plane: MessagePlaneSection = MessagePlaneSection()
    broadcast: BroadcastSection = BroadcastSection()
    delivery: DeliveryPolicy = DeliveryPolicy()
    tree: TreeSection = TreeSection()
    groups: GroupsSection = GroupsSection()
    uplink: UplinkSection = EmbeddedSection()
    update: UpdateSection = UpdateSection()
    seal: Any = Field(None, description="group master keys by MIKEY-SAKKE: a `val_client.section.SealSection`")

    @model_validator(mode="after")
    def _one_listener(self) -> Self:
        web, metrics = getattr(self, "web", None), getattr(self, "metrics", None)  # optional sections
        if web is not None and metrics is not None and metrics.model_fields_set & {"listen", "port"}:
            raise ValueError("/metrics is where the page of [web] is: delete listen and port under [metrics]")
        return self
