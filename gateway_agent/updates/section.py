"""The section `[update]` of the configuration."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from gateway_agent.config.section import Section


class UpdateSection(Section):
    """Updates of boards over the air."""

    key: Annotated[Path, Field(strict=False)] | None = Field(
        None, description="public file of the key that signs updates, from `keycast update key`"
    )

    @field_validator("key")
    @classmethod
    def _beside_the_configuration(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if key is None or info.context is None:
            return key
        try:
            folder: Path = info.context["folder"]
            return folder / key.expanduser()
        except RuntimeError:
            raise ValueError(f"the home folder {key.parts[0]} is not known, write the whole path") from None
