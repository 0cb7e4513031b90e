"""The section `[seal]` of the configuration. Reading it needs none of the packages of the extra `seal`."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpns import tuning
from gateway_agent.val_client.gmk_checks import Settings
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from mikey_sakke.group_configuration import URI_MAX


class GroupAccess(BaseModel):
    """A VAL group that is a Service Group of this PN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: Annotated[str, Field(min_length=1, max_length=255, description="URI of the VAL or MC group")]
    sg_id: Annotated[str, Field(min_length=1, max_length=64, description="SG ID in this PN, and in no other")]
    pnes: list[str] | None = Field(None, description="PNE IDs of the boards that may join; none: all of the PN")


class BoardAccess(BaseModel):
    """A PNE that is a VAL client itself: its user, and that user's tokens. The gateway has no KMS keys of the user."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pne: Annotated[str, Field(min_length=1, max_length=tuning.ENTITY_ID_MAX, description="PNE ID of the board")]
    user_uri: Annotated[str, Field(min_length=1, max_length=URI_MAX, description="VAL or MC service ID of the board")]
    cms: ServerAccess = Field(description="the CMS: url, token, ca_file")
    gms: list[GmsAccess] = Field(min_length=1, description="each GMS: url, token, ca_file, gms_uri, affiliate")


class SealSection(Settings):
    """The settings of a gateway that is a VAL or MC client."""

    kms: KmsAccess = Field(description="the KMS: url, kms_uri, user_uri, token, ca_file")
    cms: ServerAccess = Field(description="the CMS: url, token, ca_file")
    gms: list[GmsAccess] = Field(min_length=1, description="each GMS: url, token, ca_file, gms_uri, affiliate")
    groups: list[GroupAccess] = Field(
        min_length=1, description="VAL groups that are Service Groups: group, sg_id, pnes"
    )
    boards: list[BoardAccess] = Field([], description="boards that are VAL clients themselves: pne, user_uri, cms, gms")

    @model_validator(mode="after")
    def _mapped_once(self) -> Self:
        for names in ([each.group for each in self.groups], [each.sg_id for each in self.groups]):
            if len(set(names)) < len(names):
                raise ValueError("a group or SG ID is mapped twice")
        users = [self.kms.user_uri, *(each.user_uri for each in self.boards)]
        if len(set(users)) < len(users) or len({each.pne for each in self.boards}) < len(self.boards):
            raise ValueError("a board or a user stands here twice")
        return self
