"""Where an HTTPS server of key material keeps its things and listens: settings, and the sockets. TLS, or loopback."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from key_servers.errors import ServerError
from key_servers.kms import tls

BACKLOG = 1024
"""Users whose long polls all begin anew, after a restart, find room."""


class ListenFailed(ServerError):
    """The server cannot listen where it should."""


class Listening(BaseModel):
    """Where a server keeps its things and listens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(description="folder of the store, and of what else the server keeps")
    listen: list[str] = Field(["127.0.0.1"], min_length=1, description="IP addresses to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="TCP port, 0 = any free one")
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

    @property
    def database_url(self) -> str | None:
        """The URL of PostgreSQL with its password, None for SQLite."""
        return self.database.get_secret_value() if self.database else None


async def listen(runner: web.AppRunner, config: Listening) -> list[str]:
    """Let `runner` answer where `config` says; gives the URLs. Raises ServerError; `runner` is ended by the caller."""
    context = None
    if config.tls_certificate and config.tls_key:
        context = tls.server_context(config.tls_certificate, config.tls_key)
    await runner.setup()
    for host in config.listen:
        try:
            await web.TCPSite(runner, host, config.port, ssl_context=context, backlog=BACKLOG).start()
        except OSError as error:
            raise ListenFailed(
                f"Cannot listen on {host}, port {config.port}: {error.strerror}.", "Choose another port or address."
            ) from None
    scheme = "https" if context else "http"
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port, *_ in runner.addresses]
