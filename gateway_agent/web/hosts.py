"""Decides whether a request means this page: by the name in its Host, and for a form by the page it comes from.

A name that an attacker owns can be made to lead to this machine (DNS rebinding), and a page of another site can send a
form here. Neither can choose what a browser writes into Host and Origin.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def host_of(authority: str) -> str:
    """Return the host of an authority such as gateway.local:8686 or [::1]:8686 in small letters, "" if it is none."""
    try:
        split = urlsplit(f"//{authority}")
        _ = split.port  # raises ValueError if it is no number
    except ValueError:
        return ""
    if split.netloc != authority or split.path or split.username is not None:
        return ""
    return (split.hostname or "").rstrip(".")


def is_ours(authority: str, own_address: str, names: Collection[str]) -> bool:
    """Return True if the Host `authority` is localhost, the address at which the connection came in, or a known name.

    `own_address` is that address, "" if it is not known; `names` are host names and addresses in small letters.
    """
    host = host_of(authority)
    if not host:
        return False
    if host in names or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
        return str(address) in names or (own_address != "" and address == _plain(own_address))
    except ValueError:
        return False


def is_same_origin(origin: str | None, fetch_site: str | None, authority: str) -> bool:
    """Return True if a form comes from a page of the same host and port: `origin` names it, `fetch_site` agrees.

    The scheme is not compared: behind a proxy with TLS the browser speaks HTTPS, and this server does not.
    """
    if not origin or fetch_site not in (None, "same-origin"):
        return False
    scheme, _, theirs = origin.partition("://")
    return scheme in ("http", "https") and theirs.lower() == authority.lower()


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    read = ipaddress.ip_address(address.partition("%")[0])
    return (read.ipv4_mapped or read) if isinstance(read, ipaddress.IPv6Address) else read
