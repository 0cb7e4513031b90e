"""TLS on the way to PostgreSQL: whoever reads what goes there has the keys of the key server, and its password."""

import ipaddress
import os
from typing import Any

from key_servers.errors import StoreUnusable

_NOT_PRIVATE = ("disable", "allow", "prefer")


def with_tls(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection (libpq's), with `sslmode=verify-full` if they name no mode.

    A database on this machine needs none. Raises StoreUnusable for a mode that may go without TLS over a network.
    """
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    if all(map(_is_local, hosts)):
        return parameters
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE", "verify-full")
    if mode in _NOT_PRIVATE:
        raise StoreUnusable(
            f"With sslmode={mode} the keys in the database can be read on the way.",
            "Add ?sslmode=verify-full&sslrootcert=FILE to its URL.",
        )
    return parameters | {"sslmode": mode}


def _is_local(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):  # a socket of this machine
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
