"""What every section of the configuration is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cpns import tuning

EntityId = Annotated[str, Field(min_length=1, max_length=tuning.CREDENTIAL_ID_MAX)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """One table of the configuration file: nothing that is not named here may stand in it, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
