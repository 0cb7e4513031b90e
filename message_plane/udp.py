"""UDP sockets for CoAP on Linux: bound to given addresses, answering from the address that was asked.

An aiocoap message interface of our own, because a socket bound to one address hears no directed broadcast, and
because strangers' datagrams must cost little and raise nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiocoap import Message, error, interfaces  # type: ignore[import-untyped]
from aiocoap.message import Direction  # type: ignore[import-untyped]

from cpns.errors import MalformedMessage
from message_plane import tuning
from message_plane.datagram import check_datagram
from message_plane.errors import CannotListen, PeerUnreachable, PortInUse
from message_plane.incidents import Incidents
from message_plane.port_holder import in_words

_IP_PKTINFO = 8  # Linux; the socket module names it from Python 3.14 on
_IN_PKTINFO = struct.Struct("=i4s4s")  # interface, local address, destination in the header
_IN6_PKTINFO = struct.Struct("=16si")  # destination in the header, interface
_LOOPBACK_INDEX = 1
_SIOCGIFNETMASK = 0x891B
_IFREQ = struct.Struct("=16sHxx4s16x")  # name, then an IPv4 socket address: netdevice(7)
_ANCILLARY_MAX = 128
_DECODE_ERRORS = (error.Error, ValueError, IndexError, KeyError, TypeError, struct.error)


class Address(interfaces.EndpointAddress):  # type: ignore[misc]
    """A peer's UDP address as seen from one of our sockets. Equal when host, port and socket are."""

    __slots__ = ("_source", "host", "is_multicast_locally", "port", "socket", "target")

    scheme = "coap"
    is_multicast = False

    def __init__(self, sock: socket.socket, target: tuple[Any, ...], source: bytes | None, to_group: bool) -> None:
        """`target`: the socket address; `source`: packet information that makes our answer come from the address
        that was asked, and leave by the interface it was asked on, if known; `to_group`: it came to a broadcast or
        multicast address."""
        self.socket = sock
        self.target = target
        self.host: str = target[0]
        self.port: int = target[1]
        self._source = source
        self.is_multicast_locally = to_group

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Address)
            and self.port == other.port
            and self.host == other.host
            and self.socket is other.socket
        )

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __repr__(self) -> str:
        return f"<Address {self.hostinfo}>"

    @property
    def hostinfo(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def hostinfo_local(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def uri_base(self) -> str:
        return "coap://" + self.hostinfo

    @property
    def uri_base_local(self) -> str:
        return "coap://" + self.hostinfo_local

    @property
    def blockwise_key(self) -> tuple[str, int]:
        return (self.host, self.port)

    def send(self, data: bytes) -> None:
        """Hand one datagram to the kernel. Raises OSError."""
        if self._source is not None:
            level, kind = _packet_information(self.socket)
            try:
                self.socket.sendmsg([data], [(level, kind, self._source)], 0, self.target)
            except BlockingIOError:
                raise
            except OSError:
                self._source = None  # that address or interface is gone: the routing table knows another way, or none
            else:
                return
        self.socket.sendto(data, self.target)


class UdpSockets(interfaces.MessageInterface):  # type: ignore[misc]
    """All sockets of one endpoint. `receive` gets every well-formed CoAP message."""

    def __init__(self, receive: Callable[[Any], None], incidents: Incidents) -> None:
        self._receive = receive
        self._incidents = incidents
        self._sockets: list[socket.socket] = []
        self._buffer = bytearray(tuning.DATAGRAM_MAX + 1)
        self._loop = asyncio.get_running_loop()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """What the sockets are bound to, in the order of `bind`."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def bind(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Bind to each numeric (address, port), all or none. Raises PortInUse, CannotListen."""
        try:
            for host, port in addresses:
                self._sockets.append(bound(host, port))
        except BaseException:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
            raise
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._readable, sock)

    async def find(self, host: str, port: int) -> Address:
        """The address of a named or numeric host, reached from the first socket of its family.

        Raises PeerUnreachable.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            try:
                found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            except OSError as problem:
                raise PeerUnreachable(f"{host} is not known here: {problem.strerror}") from None
        for family, _, _, _, target in found:
            for sock in self._sockets:
                if sock.family == family:
                    return Address(sock, target, None, to_group=False)
        raise PeerUnreachable(f"no socket is bound that could reach {host}")

    # aiocoap's MessageInterface

    def send(self, message: Any) -> None:
        """Encode and send; a datagram the kernel does not take is lost like any other, and counted."""
        try:
            message.remote.send(message.encode())
        except OSError:
            self._incidents.count("datagrams_unsent")

    async def determine_remote(self, message: Any) -> None:
        """Messages come with their address; nothing is looked up here."""

    async def shutdown(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    # Private

    def _readable(self, sock: socket.socket) -> None:
        view = memoryview(self._buffer)
        for _ in range(tuning.READ_BURST):
            try:
                length, ancillary, _, target = sock.recvmsg_into([view], _ANCILLARY_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._incidents.strange("datagrams_malformed")
                return
            self._incidents.count("datagrams_received")
            self._take(bytes(view[:length]), ancillary, sock, target)

    def _take(self, data: bytes, ancillary: list[Any], sock: socket.socket, target: tuple[Any, ...]) -> None:
        try:
            check_datagram(data)
            message = Message.decode(data, remote=_address(sock, target, ancillary))
        except (MalformedMessage, *_DECODE_ERRORS):
            self._incidents.strange("datagrams_malformed")
            return
        message.direction = Direction.INCOMING
        self._receive(message)


def bound(host: str, port: int) -> socket.socket:
    """A socket for messages, bound to a numeric address. Raises PortInUse, CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, tuning.RECEIVE_BUFFER)
        sock.bind((host, port))
    except OSError as problem:
        sock.close()
        if problem.errno == errno.EADDRINUSE:
            who = in_words("udp", host, port)
            raise PortInUse(f"UDP port {port} of {host} is used by {who}: stop it, or configure another port") from None
        step = "choose a port from 1024 on" if problem.errno == errno.EACCES else "name addresses of this machine"
        raise CannotListen(f"cannot listen on {host}, UDP port {port} ({problem.strerror}): {step}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _address(sock: socket.socket, target: tuple[Any, ...], ancillary: list[Any]) -> Address:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _IN_PKTINFO.size:
            interface, local, destination = _IN_PKTINFO.unpack_from(data)
            way = interface if _is_neighbour(sock, target[0], interface, local) else 0
            source = _IN_PKTINFO.pack(way, local, bytes(4))
            return Address(sock, target, source, to_group=local != destination)
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _IN6_PKTINFO.size:
            destination, interface = _IN6_PKTINFO.unpack_from(data)
            if destination[0] == 0xFF:
                return Address(sock, target, None, to_group=True)
            return Address(sock, target, _IN6_PKTINFO.pack(destination, interface), to_group=False)
    return Address(sock, target, None, to_group=False)


def _is_neighbour(sock: socket.socket, host: str, interface: int, local: bytes) -> bool:
    """True if `host` is in the network that our address `local` has on `interface`.

    Where two interfaces are in one network the routing table knows one of them only, perhaps the one without a cable.
    """
    if interface == _LOOPBACK_INDEX:
        return False
    try:
        name = socket.if_indextoname(interface).encode()
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFNETMASK, _IFREQ.pack(name, socket.AF_INET, local))
    except OSError:  # it is gone, or has no address any more
        return False
    peer, own, mask = (int.from_bytes(octets) for octets in (socket.inet_aton(host), local, _IFREQ.unpack(answer)[2]))
    return not (peer ^ own) & mask


def _packet_information(sock: socket.socket) -> tuple[int, int]:
    if sock.family == socket.AF_INET:
        return socket.IPPROTO_IP, _IP_PKTINFO
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
