"""What an operator may set for a KMS: one schema for files, their errors and their documentation."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

MASTER_SECRETS_FILE = "master_secrets.json"
STORE_FILE = "kms.sqlite3"
TLS_CERTIFICATE_FILE = "tls_certificate.pem"
TLS_KEY_FILE = "tls_key.pem"


class KmsConfig(BaseModel):
    """Where a KMS keeps its things and listens. Its name and key periods belong to the master secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(description="folder of master secrets, users and tokens")
    listen: list[str] = Field(["127.0.0.1"], min_length=1, description="IP addresses to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8443, description="TCP port, 0 = any free one")
    tls_certificate: Path | None = Field(None, description="PEM file; none: plain HTTP, only on loopback")
    tls_key: Path | None = Field(None, description="PEM file of mode 0600")
    database: SecretStr | None = Field(None, description="postgresql://...; none: SQLite in state_dir")

    @model_validator(mode="after")
    def _plain_only_on_loopback(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        for host in self.listen:
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                raise ValueError(f"listen takes IP addresses, not {host!r}") from None
            if self.tls_certificate is None and not address.is_loopback:
                raise ValueError("without TLS only loopback addresses can be listened on: set tls_certificate, tls_key")
        return self
