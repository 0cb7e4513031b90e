"""The check of the ports at which the gateway listens: each must be free, or its own."""

import errno
import os
import socket
from collections.abc import Iterator

from keycast.doctor.finding import Finding, bad, good
from keycast.doctor.surroundings import Surroundings
from message_plane.port_holder import holders, in_words

_PAGE = "docs/troubleshooting.md"
_IN_USE = os.strerror(errno.EADDRINUSE)


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield who has each port."""
    if here.config is None:
        return
    plane = here.config.message_plane
    wanted = [("udp", host, plane.port, "[message_plane]") for host in plane.listen]
    page = getattr(here.config, "web", None)
    if page is not None:
        wanted += [("tcp", host, page.port, "[web]") for host in page.listen]
    for protocol, host, port, section in wanted:
        yield _of_port(protocol, host, port, section, here.pid)


def _of_port(protocol: str, host: str, port: int, section: str, pid: int | None) -> Finding:
    named = f"{protocol.upper()} port {port} of {host} ({section})"
    reason = why_not(protocol, host, port)
    if not reason:
        return good(f"{named} is free")
    if reason != _IN_USE:
        return bad(
            f"{named} cannot be used: {reason}.", "Name addresses of this machine, and a port from 1024 on.", _PAGE
        )
    if pid is not None and pid in (0, *(holder.pid for holder in holders(protocol, host, port))):
        return good(f"{named} is the gateway's")
    return bad(f"{named} is used by {in_words(protocol, host, port)}.", f"Stop it, or set {section} port.", _PAGE)


def why_not(protocol: str, host: str, port: int) -> str:
    """Return why a socket cannot be bound to a port of a numeric address, "" if it can."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        if protocol == "tcp":  # a connection of before that waits for its end does not occupy the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""
