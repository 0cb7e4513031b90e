"""The UDP ports of the loopback network that the simulated houses of this process have to themselves.

A gateway on this machine may use the ports of the protocol, and the broadcasts of one house, or of a forger in it, must
not reach another one. So each process has a port for its boards and one for their broadcasts, and each gateway has a
port of its own. They are below those that the kernel assigns by itself.
"""

import atexit
import contextlib
import functools
import itertools
import random
import socket

from gateway_agent.errors import GatewayError

GATEWAY_ADDRESS = "127.0.0.1"
EVERYBODY = "127.255.255.255"
_RESERVED_AT = "127.0.0.254"  # a port that is bound at this address counts as taken on all of loopback
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200
_NUMBERS = 16_000
_reserved = contextlib.ExitStack()
atexit.register(_reserved.close)
_counted = itertools.count()


def own_port() -> int:
    """Return a UDP port of the loopback network, reserved until this process ends. Raises GatewayError."""
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, _LAST)
        if _is_free(port):
            return port
    raise GatewayError(
        f"No UDP port from {_FIRST} to {_LAST} of the loopback network is free.", "End programs that have them."
    )


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


def _is_free(port: int) -> bool:
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        held.bind((_RESERVED_AT, port))
        for address in (GATEWAY_ADDRESS, EVERYBODY):  # a program may have bound only one address
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((address, port))
    except OSError:
        held.close()
        return False
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sockets that share broadcasts may now bind it
    _reserved.enter_context(held)
    return True
