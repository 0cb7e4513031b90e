# The ESP32's `socket`, with addresses (ip, port), on that of the unix port, which has raw sockaddr bytes. Datagrams
# are lost here. A wildcard address means that of this board, since all boards are on one machine.
#
# `recvfrom` takes of the heap what that of the ESP32 takes: room for the longest datagram, in one piece, before one
# leaves the queue. That of the unix port copies the datagram after that, and loses it if the heap has no second room.
# And like that of the ESP32 a socket that has received an empty datagram reads nothing any more, and returns at once.
import sys

import air

_path = sys.path[:]
sys.path.clear()  # so that the next import finds the built-in module
import socket as _native

sys.path.extend(_path)
from asyncio import core
from os import getenv

import ffi

AF_INET = _native.AF_INET
SOCK_DGRAM = _native.SOCK_DGRAM
SOCK_STREAM = _native.SOCK_STREAM
SOL_SOCKET = _native.SOL_SOCKET
SO_REUSEADDR = _native.SO_REUSEADDR
SO_BROADCAST = _native.SO_BROADCAST

_MSG_PEEK = 2
_FIONREAD = 0x541B
_ioctl = ffi.open(None).func("i", "ioctl", "iIp")
_octets = bytearray(4)  # of the next datagram
_nothing = open("/dev/null", "rb")  # noqa: SIM115 - for good

_starves = None
if getenv("BOARD_IDF_HEAP"):
    from idf_heap import starves as _starves

_WILDCARDS = ("", "0.0.0.0")
PORT = 5683
BROADCAST_PORT = 5687  # bound to the broadcast address: Linux delivers a datagram to every such socket


def getaddrinfo(host, port, *rest):
    ip = _native.inet_ntop(AF_INET, _native.sockaddr(_raw((host, port)))[1])
    return [(AF_INET, SOCK_DGRAM, 0, "", (ip, port))]


def _raw(address):
    return _native.getaddrinfo(address[0], air.PORTS.get(address[1], address[1]))[0][-1]


_MEANT = {there: here for here, there in air.PORTS.items()}


class socket:
    def __init__(self, af=AF_INET, kind=SOCK_STREAM, proto=0):
        self._s = self._mouth = _native.socket(af, kind)
        self._ended = False

    def bind(self, address):
        host, port = address
        if host in _WILDCARDS:
            host = air.ADDRESS
            if port == BROADCAST_PORT:
                # send from this board's address; Linux would choose another one of the loopback network
                self._mouth = _native.socket(AF_INET, SOCK_DGRAM)
                self._mouth.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
                self._mouth.bind(_raw((host, port)))
                host = air.broadcast_address()
        self._s.bind(_raw((host, air.OWN_PORT if port == PORT else port)))

    def close(self):
        self._s.close()
        self._mouth.close()

    def sendto(self, data, address):
        air.counts["sent"] += 1
        if address[0] == "255.255.255.255":
            address = (air.broadcast_address(), address[1])
        # each receiver decides whether a broadcast is lost
        if (not air.connected or address[0] != air.broadcast_address()) and air.lost():
            return len(data)
        return self._mouth.sendto(data, _raw(address))

    def recvfrom(self, limit):
        if self._ended:
            return b"", ("0.0.0.0", 0)
        while True:  # ends with EAGAIN from the native socket
            _, raw = self._s.recvfrom(1, _MSG_PEEK)
            _nothing.read(limit)  # it takes the room of `limit` octets, or MemoryError, and gives it back at once
            data = self._next(limit)
            _, ip, port = _native.sockaddr(raw)[:3]
            host = _native.inet_ntop(AF_INET, ip)
            if host == air.ADDRESS:  # a radio does not hear itself
                continue
            if _starves and _starves():
                air.counts["starved"] = air.counts.get("starved", 0) + 1
            elif not air.lost():
                air.counts["received"] += 1
                self._ended = not data
                return data, (host, _MEANT.get(port, port))

    def _next(self, limit):
        _ioctl(self._s.fileno(), _FIONREAD, _octets)
        size = min(int.from_bytes(_octets, "little"), limit)
        # `read` makes no copy, but it reads until it has all: it must not ask for more than there is
        return self._s.read(size) if size else self._s.recv(1)

    def __getattr__(self, name):
        return getattr(self._s, name)


# poll() of the unix port crashes on a Python object, so it gets the native socket.
_enqueue = core.IOQueue._enqueue
core.IOQueue._enqueue = lambda queue, s, index: _enqueue(queue, getattr(s, "_s", s), index)
