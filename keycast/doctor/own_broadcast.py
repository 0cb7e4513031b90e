"""The check whether a broadcast of this machine comes back to it: the kernel loops each one back, unless a firewall
drops it."""

import secrets
import select
import socket
import time
from collections.abc import Iterator

from gateway_agent.net.interfaces import Interface
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings

WAIT_S = 1.0
_MAGIC = b"keycast doctor "  # no board takes it for a frame: the port is another one, too
_PAGE = "docs/gateway.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield for each network whether an own broadcast comes back. No board listens on the port that is used."""
    if here.config is None:
        return
    for interface in here.interfaces():
        if interface.standstill:
            continue
        try:
            came = comes_back(interface)
        except OSError as error:
            yield bad(
                f"A broadcast on {interface.name} cannot be sent: {error.strerror}.",
                "Look at the interface, and at rules of the firewall for what goes out.",
                _PAGE,
            )
            continue
        if came:
            yield good(f"a broadcast on {interface.name} to {interface.broadcast} comes back")
        else:
            yield warning(
                f"A broadcast on {interface.name} to {interface.broadcast} does not come back within {WAIT_S:.0f} s.",
                "Look at the firewall (broadcasts, UDP), and ask: keycast doctor, line firewall",
                _PAGE,
            )


def comes_back(interface: Interface, wait_s: float = WAIT_S) -> bool:
    """Send one random datagram to the broadcast address of a network; return whether it is received here.

    Raises OSError if it cannot be sent.
    """
    token = _MAGIC + secrets.token_bytes(8)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("", 0))
        receiver.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.bind((interface.address, 0))
        sender.sendto(token, (interface.broadcast, receiver.getsockname()[1]))
        ends = time.monotonic() + wait_s
        while (left := ends - time.monotonic()) > 0:
            readable, _, _ = select.select([receiver], [], [], left)
            if readable and receiver.recv(len(token) + 1) == token:
                return True
    return False
