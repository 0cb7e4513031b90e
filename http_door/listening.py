"""The settings of the addresses of an HTTP server, and its sockets. Without TLS only loopback is allowed."""

import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from http_door import tuning
from http_door.admission import Limits
from http_door.errors import ListenFailed
from message_plane.port_holder import in_words


class HttpListening(BaseModel):
    """The settings of an HTTP server: the addresses at which it listens, its TLS files, and its limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    plain_only_on_loopback: ClassVar[bool] = True

    listen: list[str] = Field(["127.0.0.1"], min_length=1, description="IP addresses to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="TCP port, 0 = any free one")
    tls_certificate: Path | None = Field(None, description="PEM file; none: plain HTTP, only on loopback")
    tls_key: Path | None = Field(None, description="PEM file of mode 0600")
    limits: Limits = Field(Limits(), description="how many connections, and for how long")

    @model_validator(mode="after")
    def _examine(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        for host in self.listen:
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                raise ValueError(f"listen takes IP addresses, not {host!r}") from None
            if self.plain_only_on_loopback and self.tls_certificate is None and not address.is_loopback:
                raise ValueError("without TLS only loopback addresses can be listened on: set tls_certificate, tls_key")
        return self


def sockets(config: HttpListening) -> list[socket.socket]:
    """Return a listening socket, which never blocks, for each address of `config`.

    Raise ListenFailed, and leave none open.
    """
    made: list[socket.socket] = []
    for host in config.listen:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            made.append(socket.create_server((host, config.port), family=family, backlog=tuning.BACKLOG))
        except OSError as error:
            for each in made:
                each.close()
            raise _refusal(error, host, config.port) from None
        made[-1].setblocking(False)
    return made


def _refusal(error: OSError, host: str, port: int) -> ListenFailed:
    if error.errno == errno.EADDRINUSE:
        return ListenFailed(
            f"TCP port {port} of {host} is used by {in_words('tcp', host, port)}.", "Stop it, or choose another port."
        )
    why = os.strerror(error.errno) if error.errno else str(error)
    step = "Choose a port from 1024 on." if error.errno == errno.EACCES else "Name addresses of this machine."
    return ListenFailed(f"Cannot listen on {host}, TCP port {port}: {why}.", step)


def url_of(listening: socket.socket, tls: bool) -> str:
    """Return the URL that reaches a listening socket."""
    host, port, *_ = listening.getsockname()
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
