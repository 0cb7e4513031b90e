"""The settings of a CPNS Server: one schema for files, their errors and their documentation."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import cpns.tuning
from cpns import numbers
from key_servers.cpns_server import tuning
from message_plane.links.mqtt_section import MqttSection

EntityId = Annotated[str, Field(min_length=1, max_length=cpns.tuning.CREDENTIAL_ID_MAX)]
Period = Annotated[int, Field(ge=0, le=10 * 366 * 86400)]


class ServerConfig(BaseModel):
    """All settings have a default, so that an embedded Server needs none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: EntityId = Field(default="server.local", description="entity ID of this CPNS Server")
    listen: list[str] = Field(default=[], description="IP addresses to listen on; [] for an embedded Server")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=5685, description="UDP port (CoAP), 0 = any free one")
    mqtt: MqttSection = Field(default=MqttSection(), description="MQTT brokers over which PN GWs reach this Server")
    rekey_on_join: bool = Field(default=True, description="new groups: a newcomer cannot read the past")
    period_s: Period = Field(default=0, description="new groups: seconds between updates, 0 = none, else at least 60")
    batching_s: Annotated[float, Field(ge=0, le=tuning.BATCHING_MAX_S)] = Field(
        default=tuning.BATCHING_S, description="joins and leaves within this many seconds make one update"
    )
    join_policy: Literal["open", "listed"] = Field(
        default="open", description="new groups: all boards of their PNs may join, or only those a person permitted"
    )
    creation_by_pnes: bool = Field(default=True, description="boards may create Service Groups, not only an operator")
    protection: Literal["authenticated", "sealed"] = Field(
        default="sealed", description="new groups: how messages are protected"
    )

    @model_validator(mode="after")
    def _period_that_can_be_meant(self) -> "ServerConfig":
        if 0 < self.period_s < tuning.PERIOD_MIN_S or self.period_s > tuning.PERIOD_MAX_S:
            raise ValueError(f"period_s is 0 or at least {tuning.PERIOD_MIN_S}, and at most {tuning.PERIOD_MAX_S}")
        return self

    @property
    def is_remote(self) -> bool:
        """True if PN GWs reach this Server from elsewhere, False if it is embedded in the process of one."""
        return bool(self.listen or self.mqtt.brokers)

    @property
    def protection_code(self) -> int:
        """The number that stands for `protection` in messages."""
        return numbers.PROTECTION_SEALED if self.protection == "sealed" else numbers.PROTECTION_AUTHENTICATED
