"""Where the REST interface of a CPNS Server listens, from the options of the command that runs the Server."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from key_servers.cpns_server.rest.paths import TLS_CERTIFICATE_FILE, TLS_KEY_FILE
from key_servers.errors import ServerError
from key_servers.https.listening import Listening
from keycast.services.server_config import checked

if TYPE_CHECKING:
    from key_servers.cpns_server.app import CpnsServer


def rest_listening(at: str, files: Path | None, state: Path) -> Listening | None:
    """Return the settings for `at`, an IP address and a TCP port as in 0.0.0.0:8445, or None if that is empty.

    `files`: the folder with the TLS files. Raises ServerError for what cannot be used, without TLS anything but
    loopback.
    """
    if not at:
        return None
    host, _, port = at.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise ServerError(f"{at!r} is no address to listen at.", "Write an IP address and a TCP port: 0.0.0.0:8445")
    if files is None and _is_seen(host.strip("[]")):
        raise ServerError(
            f"REST at {host} needs TLS, which only loopback can do without.",
            "Make its files, and name them: keycast server rest-files FOLDER, --rest-files FOLDER",
        )
    pair = {} if files is None else {"tls_certificate": files / TLS_CERTIFICATE_FILE, "tls_key": files / TLS_KEY_FILE}
    return checked(Listening, state_dir=state, listen=[host.strip("[]")], port=int(port), **pair)


def _is_seen(host: str) -> bool:
    """Return True for an address that other machines can reach."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def rest_open(server: "CpnsServer", config: Listening | None) -> AsyncIterator[list[str]]:
    """Listen as `config` says, and yield the URLs of the REST interface, none without a configuration."""
    if config is None:
        yield []
        return
    from key_servers.cpns_server.rest.app import RestInterface  # its package aiohttp belongs to an extra

    rest = RestInterface(server)
    await rest.open(config)
    try:
        yield rest.urls
    finally:
        await rest.close()
