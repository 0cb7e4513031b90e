"""Ports of this machine for a program that binds them later: a gateway, a board, a broker.

The kernel gives a port to each client socket, and to each server that asks for port 0. Such a number, read and given
back, may be another program's before it is bound again. The ports here lie below those that the kernel assigns by
itself. They are handed out in blocks, each of which one process has to itself until it ends (`keycast.claims`).
"""

import atexit
import contextlib
import functools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from gateway_agent.errors import GatewayError
from keycast.claims import claim

_ASSIGNED = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 20_000  # most services that people install have lower ones
_UNPRIVILEGED = 1_024
_BLOCK = 64
_FEWEST = 16 * _BLOCK
_claims = contextlib.ExitStack()
atexit.register(_claims.close)


def free_port() -> int:
    """Return a port that nobody has, neither of UDP nor of TCP, at any address of this machine.

    A process gets a port once, and no other process on this network gets it by this function before that process has
    ended. Raises GatewayError when no port is left.
    """
    for port in _own_ports():
        if _is_free(port):
            return port
    ports = ports_below(first_assigned())
    raise GatewayError(
        f"No port from {ports[0]} to {ports[-1]} is free.",
        "End programs that have them, such as other houses of boards.",
    )


def first_assigned() -> int:
    """Return the lowest port that the kernel assigns by itself, in this network."""
    return int(_ASSIGNED.read_text().split()[0])


def ports_below(assigned: int) -> range:
    """Return the ports to choose from where the kernel assigns those from `assigned` on.

    Where too few are lower that every user may bind, these are the ports from 20000 on all the same: then the kernel
    may give one to another program before it is bound, and nothing but chance is against it.
    """
    for first in (_FIRST, _UNPRIVILEGED):
        if assigned - first >= _FEWEST:
            return range(first, assigned)
    return range(_FIRST, 2 * _FIRST)


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of this process that it has not looked at yet: one iterator, which is never begun again."""
    return _in_own_blocks()


os.register_at_fork(after_in_child=_own_ports.cache_clear)  # a child takes blocks of its own


def _in_own_blocks() -> Iterator[int]:
    ports = ports_below(first_assigned())
    blocks = [ports[start : start + _BLOCK] for start in range(0, len(ports), _BLOCK)]
    random.shuffle(blocks)
    for block in blocks:
        if _is_claimed(block[0]):
            yield from block


def _is_claimed(first: int) -> bool:
    """Claim the block that begins with this port; return whether it is this process's now."""
    held = claim(f"ports from {first}")
    if held is not None:
        _claims.enter_context(held)
    return held is not None


def _is_free(port: int) -> bool:
    family, everywhere = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # so it is of both families
            try:
                probe.bind((everywhere, port))
            except OSError:
                return False
    return True
