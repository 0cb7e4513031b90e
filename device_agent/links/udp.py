"""UDP as a link and a medium: one socket for the message plane, others that hear and send on the broadcast plane.

Broadcasts are sent from the port of the broadcast plane: from that of CoAP, tools would take them for CoAP.

A socket that has received an empty datagram is opened anew: MicroPython on the ESP32 takes it for the end of a
connection and reads nothing from that socket any more (micropython-lib#736), so anybody could make a board deaf.
"""

import asyncio
import errno
import socket
import sys

from cpns import numbers as n

_DATAGRAM_MAX = 1500
_LONG, _SHORT, _SHORTEST = 1152, 512, 192  # with a kilobyte of an update; most datagrams have less than the last
_ANY = "0.0.0.0"
_UNICAST, _BROADCAST, _MOUTH = 0, 1, -1  # sockets; the last two are one where it can be

if sys.implementation.name == "micropython":
    from asyncio import core  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs

    def _receive(sock):  # no `async def`, of which each that waits takes heap
        while True:
            yield core._io_queue.queue_read(sock)  # a recvfrom that finds nothing would leave its buffer as garbage
            try:
                return _recvfrom(sock)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise

    def _recvfrom(sock):
        # A heap that is nearly full has no such room in one piece; short datagrams are received all the same
        for limit in (_DATAGRAM_MAX, _LONG, _SHORT, _SHORTEST):
            try:
                datagram, address = sock.recvfrom(limit)
            except MemoryError:
                continue
            except OSError as error:
                if limit == _DATAGRAM_MAX or error.errno != errno.EAGAIN:
                    raise
                break  # it had left the queue before there was no room
            if len(datagram) < limit:
                return datagram, address
            break
        return None, None

else:

    async def _receive(sock):
        return await asyncio.get_running_loop().sock_recvfrom(sock, _DATAGRAM_MAX)  # pyright: ignore - CPython


def directed_broadcast(host, mask):
    """Return the directed broadcast address of the network of `host` with netmask `mask`, all as '192.168.1.10'."""
    return ".".join([str(int(a) | ~int(m) & 255) for a, m in zip(host.split("."), mask.split("."))])


class UdpLink:
    """A link and medium. `host` is the own IPv4 address, `everybody` the directed broadcast address of its network.

    The broadcast socket is bound to `hear`, by default `everybody`; several processes of one machine may share it.
    Ports are those of the protocol unless a test sets others. Raises OSError if an address is taken.
    """

    reports = False

    def __init__(self, host, everybody, hear=None, port=n.PORT_COAP, broadcast_port=n.PORT_BROADCAST):
        self._everybody = everybody
        self.dropped = 0  # datagrams that the network did not accept
        self.cut = 0  # datagrams that found no room in the heap
        self.empty = 0  # datagrams without an octet, after each of which a socket was opened anew
        self._broadcast_port = broadcast_port
        both = broadcast_port, socket.SO_REUSEADDR, socket.SO_BROADCAST
        self._places = [(host, port, socket.SO_BROADCAST), (hear or everybody,) + both]
        if hear != _ANY:  # a socket that is bound to a broadcast address would send from that
            self._places.append((host,) + both)
        self._sockets = [None] * len(self._places)
        try:
            for which in range(len(self._places)):
                self._open(which)
        except OSError:
            self.close()
            raise

    def address(self, text):
        host, _, port = text.partition(":")
        octets = [int(part) for part in host.split(".")]
        number = int(port or n.PORT_COAP)
        if len(octets) != 4 or min(octets) < 0 or max(octets) > 255 or not 0 < number < 65536:
            raise ValueError("not an IPv4 address with or without port")
        return host, number

    def text(self, address):
        host, number = address
        if host.startswith(("127.", "169.254.", "0.")):
            return ""
        return host if number == n.PORT_COAP else "%s:%d" % (host, number)

    def up(self):
        return True

    async def changed(self):
        await asyncio.Event().wait()

    def standing(self):
        return True

    def send(self, address, datagram):
        self._send(_UNICAST, address, datagram)

    def ask_all(self, datagram):
        self._send(_UNICAST, (self.broadcast_address(), n.PORT_COAP), datagram)

    def recv(self):
        return self._next(_UNICAST)

    def air(self, datagram):
        self._send(_MOUTH, (self.broadcast_address(), self._broadcast_port), datagram)

    async def hear(self, home):
        return (await self._next(_BROADCAST))[1]

    def broadcast_address(self):
        """Return the IPv4 address to which datagrams for everybody are sent."""
        return self._everybody

    def close(self):
        for sock in self._sockets:
            if sock is not None:
                sock.close()

    def _open(self, which):
        self._sockets[which] = sock = _bound(*self._places[which])
        return sock

    def _send(self, which, address, datagram):
        sock = self._sockets[which]
        try:
            if sock is None:
                raise OSError(errno.EBADF)
            sock.sendto(datagram, address)
        except OSError:
            self.dropped += 1

    async def _next(self, which):
        while True:
            sock = self._sockets[which] or self._open(which)
            datagram, address = await _receive(sock)
            if datagram:
                return address, datagram
            if datagram is None:
                self.cut += 1
                continue
            self.empty += 1
            self._sockets[which] = None  # until the system has memory for another one
            sock.close()


def _bound(host, port, *options):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
