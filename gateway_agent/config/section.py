"""The base of every section of the configuration, and the types of its settings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cpns import tuning

EntityId = Annotated[str, Field(min_length=1, max_length=tuning.CREDENTIAL_ID_MAX)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """One table of the configuration file. It refuses unknown keys, and values of another type without converting."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
