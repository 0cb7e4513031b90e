"""Wi-Fi and Ethernet as a broadcast medium: one UDP datagram to the directed broadcast address of each interface.

Never 255.255.255.255: that leaves by one interface only, chosen by the routing table (CPNS-GKM-71 asks for all).
"""

import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence

from cpns import numbers, tuning
from gateway_agent.net.interfaces import Interface

_log = logging.getLogger(__name__)


class UdpBroadcast:
    """Sends datagrams to every chosen interface; one interface that fails never stops another.

    `interfaces` is called before each datagram, so that it goes out under the address that an interface has now (DHCP,
    a network that comes back). `counters` counts `broadcast_sent` and `broadcast_failed` per datagram and interface.
    """

    name = "wifi"

    def __init__(
        self,
        interfaces: Callable[[], Sequence[Interface]],
        *,
        port: int = numbers.PORT_BROADCAST,
        counters: Counter[str] | None = None,
    ) -> None:
        self._find = interfaces
        self._port = port
        self._sockets: dict[Interface, socket.socket] = {}
        self._silent: set[str] = set()
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._follow()

    @property
    def interfaces(self) -> list[Interface]:
        """Interfaces with an open socket."""
        return list(self._sockets)

    def send(self, datagram: bytes) -> int:
        """Send once on each interface and return on how many it went out.

        Raises ValueError for a datagram above 1,400 octets: it would be fragmented.
        """
        if len(datagram) > tuning.BROADCAST_OBJECT_MAX:
            raise ValueError(f"a broadcast datagram of {len(datagram)} octets would be fragmented")
        self._follow()
        sent = 0
        for interface, sock in list(self._sockets.items()):
            try:
                sock.sendto(datagram, (interface.broadcast, self._port))
            except OSError as error:
                self._lost(interface, error)
            else:
                sent += 1
                self.counters["broadcast_sent"] += 1
                self._silent.discard(interface.name)
        return sent

    def networks(self) -> list[str]:
        """Interface and directed broadcast address of each interface that can send now."""
        self._follow()
        return [f"{interface.name} {interface.broadcast}" for interface in self._sockets]

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _follow(self) -> None:
        """A socket for each address there is, none for those that are gone."""
        found = self._find()
        for gone in self._sockets.keys() - set(found):
            self._sockets.pop(gone).close()
        for interface in found:
            if interface in self._sockets:
                continue
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setblocking(False)
                sock.bind((interface.address, 0))  # the source address selects the interface
            except OSError as error:
                sock.close()
                self._report(interface, error)
            else:
                self._sockets[interface] = sock

    def _lost(self, interface: Interface, error: OSError) -> None:
        self.counters["broadcast_failed"] += 1
        if not isinstance(error, BlockingIOError):
            self._sockets.pop(interface).close()
        self._report(interface, error)

    def _report(self, interface: Interface, error: OSError) -> None:
        if interface.name not in self._silent:
            self._silent.add(interface.name)
            _log.warning("cannot broadcast on %s: %s; the other interfaces go on", interface.name, error.strerror)
