"""UDP on Linux: sockets that are bound to given addresses and answer from the address that was asked.

aiocoap's own sockets are not used, because a socket that is bound to one address receives no directed broadcast, and
because datagrams of unknown senders must cost little and raise nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import re
import socket
import struct
from collections.abc import Sequence
from typing import Any

from message_plane import tuning
from message_plane.errors import CannotListen, PeerUnreachable, PortInUse
from message_plane.links.link import Address, Link, Receive
from message_plane.links.udp_section import SCHEME, UdpSection
from message_plane.port_holder import in_words

_PLACE = re.compile(r"udp:(?:\[(.+)\]|([^\[\]:]+)):([0-9]{1,5})")
_IP_PKTINFO = 8  # Linux; the socket module has the name from Python 3.14 on
_IN_PKTINFO = struct.Struct("=i4s4s")  # interface, local address, destination in the header
_IN6_PKTINFO = struct.Struct("=16si")  # destination in the header, interface
_LOOPBACK_INDEX = 1
_SIOCGIFNETMASK = 0x891B
_IFREQ = struct.Struct("=16sHxx4s16x")  # name, then an IPv4 socket address: netdevice(7)
_ANCILLARY_MAX = 128


def place_of(host: str, port: int) -> str:
    """Return the place of a UDP port of a numeric or named host, for example `udp:192.168.1.10:5683`."""
    return f"{SCHEME}:[{host}]:{port}" if ":" in host else f"{SCHEME}:{host}:{port}"


def host_and_port(place: str) -> tuple[str, int]:
    """Return the host, numeric or a name, and the port of a place of UDP. Raises ValueError if it is none."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise ValueError(f"{place!r} is no place of UDP, such as udp:192.168.1.10:5683")
    return found[1] or found[2], int(found[3])


class UdpAddress(Address):
    """A peer's UDP address, as seen from one socket of this end. Equal if host, port and socket are equal."""

    __slots__ = ("host", "port", "socket", "source", "target")

    def __init__(
        self,
        link: UdpLink,
        sock: socket.socket,
        target: tuple[Any, ...],
        source: bytes | None = None,
        *,
        to_group: bool = False,
    ) -> None:
        """`target`: the socket address; `source`: packet information that makes answers leave from the address, and by
        the interface, at which the request came in, if known; `to_group`: the request came to a broadcast or multicast
        address."""
        super().__init__(link, to_group=to_group)
        self.socket = sock
        self.target = target
        self.host: str = target[0]
        self.port: int = target[1]
        self.source = source

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UdpAddress)
            and self.port == other.port
            and self.host == other.host
            and self.socket is other.socket
        )

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __repr__(self) -> str:
        return f"<UdpAddress {self.place}>"

    @property
    def place(self) -> str:
        return place_of(self.host, self.port)

    @property
    def counted_as(self) -> str:
        return f"{SCHEME}:{self.host}"


class UdpLink(Link[UdpAddress]):
    """All UDP sockets of one endpoint."""

    scheme = SCHEME
    datagram_max = tuning.DATAGRAM_MAX

    def __init__(self, bind: Sequence[tuple[str, int]]) -> None:
        """`bind`: numeric addresses and ports to listen on; requests of this end leave from the first one.

        To receive directed broadcasts, bind "0.0.0.0", or a broadcast address as a further entry.
        """
        self._bind = bind
        self._sockets: list[socket.socket] = []
        self._buffer = bytearray(self.datagram_max + 1)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The (address, port) of each socket, in the order of `bind`."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    @property
    def places(self) -> list[str]:
        return [place_of(host, port) for host, port in self.addresses]

    async def open(self, receive: Receive) -> None:
        """Bind to all addresses, or to none. Raises PortInUse, CannotListen."""
        try:
            for host, port in self._bind:
                self._sockets.append(bound(host, port))
        except BaseException:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
            raise
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._read, sock, receive)

    def send(self, address: UdpAddress, datagram: bytes) -> None:
        if address.source is not None:
            level, kind = _packet_information(address.socket)
            try:
                address.socket.sendmsg([datagram], [(level, kind, address.source)], 0, address.target)
            except BlockingIOError:
                raise
            except OSError:
                address.source = None  # that address or interface is gone: let the routing table choose
            else:
                return
        address.socket.sendto(datagram, address.target)

    async def find(self, place: str) -> UdpAddress:
        """Return the address of a numeric or named host, to be reached from the first socket of its address family.

        Raises PeerUnreachable.
        """
        try:
            host, port = host_and_port(place)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        except ValueError as problem:
            raise PeerUnreachable(str(problem)) from None
        except socket.gaierror:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            except OSError as problem:
                raise PeerUnreachable(f"{host} is not known here: {problem.strerror}") from None
        for family, _, _, _, target in found:
            for sock in self._sockets:
                if sock.family == family:
                    return UdpAddress(self, sock, target)
        raise PeerUnreachable(f"no socket is bound that could reach {host}")

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    # Private

    def _read(self, sock: socket.socket, receive: Receive) -> None:
        view = memoryview(self._buffer)
        for _ in range(tuning.READ_BURST):
            try:
                length, ancillary, _, target = sock.recvmsg_into([view], _ANCILLARY_MAX)
            except OSError:  # there is no more datagram, or it cannot be read and counts as lost
                return
            receive(bytes(view[:length]), self._address(sock, target, ancillary))

    def _address(self, sock: socket.socket, target: tuple[Any, ...], ancillary: list[Any]) -> UdpAddress:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _IN_PKTINFO.size:
                interface, local, destination = _IN_PKTINFO.unpack_from(data)
                way = interface if _is_neighbour(sock, target[0], interface, local) else 0
                source = _IN_PKTINFO.pack(way, local, bytes(4))
                return UdpAddress(self, sock, target, source, to_group=local != destination)
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _IN6_PKTINFO.size:
                destination, interface = _IN6_PKTINFO.unpack_from(data)
                if destination[0] == 0xFF:
                    return UdpAddress(self, sock, target, to_group=True)
                return UdpAddress(self, sock, target, _IN6_PKTINFO.pack(destination, interface))
        return UdpAddress(self, sock, target)


SECTION = UdpSection


def link_of(section: UdpSection) -> UdpLink:
    """Return the link that listens on each address of `section`."""
    return UdpLink([(host, section.port) for host in section.listen])


def bound(host: str, port: int) -> socket.socket:
    """Return a UDP socket that is bound to a numeric address. Raises PortInUse, CannotListen."""
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


def _is_neighbour(sock: socket.socket, host: str, interface: int, local: bytes) -> bool:
    """Return True if `host` is in the network of this machine's address `local` on `interface`.

    If two interfaces are in one network the routing table knows only one of them, perhaps the one without a cable.
    """
    if interface == _LOOPBACK_INDEX:
        return False
    try:
        name = socket.if_indextoname(interface).encode()
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFNETMASK, _IFREQ.pack(name, socket.AF_INET, local))
    except OSError:  # the interface is gone, or has no address any more
        return False
    peer, own, mask = (int.from_bytes(octets) for octets in (socket.inet_aton(host), local, _IFREQ.unpack(answer)[2]))
    return not (peer ^ own) & mask


def _packet_information(sock: socket.socket) -> tuple[int, int]:
    if sock.family == socket.AF_INET:
        return socket.IPPROTO_IP, _IP_PKTINFO
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
