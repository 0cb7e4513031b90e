"""How clients reach KMS, GMS and CMS: by HTTPS, which alone protects the keys on their way. Plain HTTP is for loopback.

Only CPython.
"""

import ipaddress
import ssl
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


class Stream(Protocol):
    """The body of an answer as it comes."""

    async def read(self, n: int, /) -> bytes:
        """Return at most `n` octets, none at the end."""
        ...


def checked_url(url: str) -> str:
    """`url`, without a slash at its end: https://host:port, or http of a loopback host. Raises ValueError."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        named = False
    if not named or parts.scheme not in ("https", "http") or parts.path not in ("", "/") or parts.query:
        raise ValueError("the URL of a server is https://host:port")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("keys travel over https only: http is for loopback")
    return url.rstrip("/")


def client_tls(url: str, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return the TLS context (1.2 or newer) that verifies the server at `url`; for plain HTTP True, as aiohttp expects.

    `ca_file`: PEM file with the only trusted CA, None: those of the system. Raises ValueError if it cannot be used.
    """
    if urlsplit(url).scheme == "http":
        return True
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"the CA file {ca_file} cannot be used ({type(error).__name__})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def read_capped(stream: Stream, most: int) -> bytes:
    """Return all octets of `stream`, or the first `most` + 1 of more, which the reader then refuses."""
    octets = bytearray()
    while len(octets) <= most and (part := await stream.read(most + 1 - len(octets))):
        octets += part
    return bytes(octets)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
