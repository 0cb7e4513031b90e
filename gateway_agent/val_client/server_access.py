"""The settings of each server of a VAL client: its URL, the token for it, and the CA to trust."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from gateway_agent.errors import ConfigError
from mikey_sakke.group_configuration import URI_MAX
from mikey_sakke.https import checked_url, client_tls
from private_store import plain_file


class ServerAccess(BaseModel):
    """The URL of a KMS, CMS or GMS, and the token for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="https://host:port; http only on loopback")
    token: SecretStr = Field(description="bearer token of the user there")
    ca_file: Path | None = Field(None, description="PEM file with the only trusted CA; none: those of the system")

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        return checked_url(url)

    @field_validator("ca_file")
    @classmethod
    def _beside_the_configuration(cls, ca_file: Path | None, info: ValidationInfo) -> Path | None:
        if ca_file is None or info.context is None:
            return ca_file
        try:
            folder: Path = info.context["folder"]
            return folder / ca_file.expanduser()
        except RuntimeError:
            raise ValueError(f"the home folder {ca_file.parts[0]} is not known, write the whole path") from None

    def tls(self) -> ssl.SSLContext | bool:
        """Return the TLS setting with which aiohttp verifies the server. Raises ConfigError for an unusable CA file."""
        if self.ca_file is not None:
            plain_file.read(self.ca_file, plain_file.PEM_MAX, ConfigError)
        try:
            return client_tls(self.url, self.ca_file)
        except ValueError as error:
            raise ConfigError(f"{self.url}: {error}.", "Check that it is PEM.") from None


class KmsAccess(ServerAccess):
    """A KMS, and the user that asks it."""

    kms_uri: str = Field(min_length=1, description="unique name of the KMS, as in its certificate")
    user_uri: str = Field(min_length=1, description="VAL or MC service ID of this client")


class GmsAccess(ServerAccess):
    """A GMS, and the groups that the user affiliates to by itself (explicit affiliation, SEAL-GMK-41)."""

    gms_uri: Annotated[str, Field(min_length=1, max_length=URI_MAX, description="server URI, as in the user profile")]
    affiliate: list[str] = Field([], description="URIs of groups to affiliate and subscribe to")
