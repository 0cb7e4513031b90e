"""The URLs that a person can open."""

import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from gateway_agent.net.interfaces import ipv4_interfaces

LOG_IN = "/log-in"


def urls(listening: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the URLs of the page, one for each address and each further name, from those at which it listens.

    For a URL of all addresses of the machine, which no browser can open, they are those of its networks.
    """
    found: dict[str, None] = {}
    for url in listening:
        split = urlsplit(url)
        host = split.hostname or ""
        for name in [*names, *(_own_addresses() if ipaddress.ip_address(host).is_unspecified else [host])]:
            found[f"{split.scheme}://{f'[{name}]' if ':' in name else name}:{split.port}"] = None
    return list(found)


def _own_addresses() -> list[str]:
    every = [each for each in ipv4_interfaces() if each.address]
    return [each.address for each in every if not each.is_loopback] or [each.address for each in every]
