"""The UDP ports of the loopback network that the simulated houses of this process have to themselves.

A gateway on this machine may use the ports of the protocol, and the broadcasts of one house, or of a forger in it, must
not reach another one. So each process has a port for its boards and one for their broadcasts, and each gateway has a
port of its own.
"""

import atexit
import contextlib
import functools
import itertools
import socket

from keycast.free_ports import free_port

GATEWAY_ADDRESS = "127.0.0.1"
EVERYBODY = "127.255.255.255"
_RESERVED_AT = "127.0.0.254"  # a port that is bound at this address counts as taken on all of loopback
_NUMBERS = 16_000
_reserved = contextlib.ExitStack()
atexit.register(_reserved.close)
_counted = itertools.count()


def own_port() -> int:
    """Return a UDP port of the loopback network, reserved until this process ends. Raises GatewayError."""
    port = free_port()
    held = _reserved.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    held.bind((_RESERVED_AT, port))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sockets that share broadcasts may now bind it
    return port


@functools.cache
def board_port() -> int:
    """Return the port that stands for UDP port 5683 at the boards of this process."""
    return own_port()


@functools.cache
def broadcast_port() -> int:
    """Return the port that stands for UDP port 5687, the broadcast plane, in the houses of this process."""
    return own_port()


def free_numbers(count: int) -> int:
    """Return the first of `count` consecutive unused board numbers, each of which has a loopback address."""
    first = next(_counted)
    for _ in range(count - 1):
        next(_counted)
    return 1 + first % (_NUMBERS - count)
