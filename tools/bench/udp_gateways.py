"""The simulated PN GWs of `pn_gateways` on UDP: each has an address and a socket of its own."""

import resource
import selectors
import socket
from multiprocessing.connection import Connection

from tools.bench.fleet import GatewayKeys
from tools.bench.pn_gateways import Expect, PnGateways

_DATAGRAM_MAX = 4096
_FILES_ELSE = 64


def host(number: int) -> str:
    """Return the address of PN GW `number`."""
    return f"127.2.{number // 250}.{1 + number % 250}"


def fits(count: int) -> bool:
    """Return True if this machine lets one process have the sockets of `count` PN GWs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or most >= count + _FILES_ELSE


def allow(count: int) -> None:
    """Let this process, and those that it starts, have the sockets of `count` PN GWs, as `fits` said."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count + _FILES_ELSE:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + _FILES_ELSE, most))


def serve(link: Connection, keys: list[GatewayKeys], port: int) -> None:
    """Run the process: answer as all these PN GWs, and for each `Expect` send `Reached`."""
    allow(len(keys))
    gateways = PnGateways(keys)
    sockets = []
    for number in range(len(keys)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((host(number), port))
        sockets.append(sock)
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ, None)
        for number, sock in enumerate(sockets):
            selector.register(sock, selectors.EVENT_READ, number)
        link.send("there")
        while True:
            for ready, _ in selector.select():
                if ready.data is not None:
                    _read(gateways, sockets[ready.data], ready.data)
                    continue
                said = link.recv()
                if not isinstance(said, Expect):
                    return
                gateways.expect(said)
            if (reached := gateways.reached()) is not None:
                link.send(reached)


def _read(gateways: PnGateways, sock: socket.socket, number: int) -> None:
    try:
        datagram, peer = sock.recvfrom(_DATAGRAM_MAX)
    except BlockingIOError:
        return
    answer = gateways.take(number, datagram)
    if answer is not None:
        sock.sendto(answer, peer)
