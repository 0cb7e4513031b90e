"""Wi-Fi and Ethernet as a broadcast medium: one UDP datagram to the directed broadcast address of each network.

Never 255.255.255.255: that leaves by one interface only, chosen by the routing table (CPNS-GKM-71 asks for all). For
the same reason each socket names its interface: two of them may be in one network.
"""

import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpns import numbers, tuning
from gateway_agent.net.interfaces import Interface

_log = logging.getLogger(__name__)

_IP_UNICAST_IF = 50  # ip(7): the interface that datagrams leave by; every user may set it, and broadcasts follow it
_INDEX = struct.Struct("!I")


@dataclass
class Figures:
    """What became of the datagrams for one network of one interface since the start.

    `problem`: why none goes out now; `is_refused`: it was seen when one was to be sent.
    """

    interface: str
    broadcast: str
    sent: int = 0
    failed: int = 0
    problem: str = ""
    is_refused: bool = False


class UdpBroadcast:
    """Sends datagrams to every chosen interface; one interface that fails never stops another.

    `interfaces` is called before each datagram, so that it goes out under the address that an interface has now (DHCP,
    a network that comes back). `counters` counts `broadcast_sent` and `broadcast_failed` per datagram and network.
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
        self._figures: dict[tuple[str, str], Figures] = {}
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._follow()

    @property
    def interfaces(self) -> list[Interface]:
        """Interfaces with an open socket."""
        return list(self._sockets)

    def send(self, datagram: bytes) -> int:
        """Send once to each network and return to how many it went out.

        Raises ValueError for a datagram above 1,400 octets: it would be fragmented.
        """
        if len(datagram) > tuning.BROADCAST_OBJECT_MAX:
            raise ValueError(f"a broadcast datagram of {len(datagram)} octets would be fragmented")
        sent = 0
        for interface in self._follow():
            figures = self._figures_of(interface)
            if self._send_on(interface, datagram):
                sent += 1
                figures.sent += 1
                self.counters["broadcast_sent"] += 1
            else:
                figures.failed += 1
                self.counters["broadcast_failed"] += 1
        return sent

    def networks(self) -> list[str]:
        """Interface and directed broadcast address of each network that can be sent to now."""
        self._follow()
        return [f"{interface.name} {interface.broadcast}" for interface in self._sockets]

    def figures(self) -> list[Figures]:
        """What went out until now, for each network there is or was."""
        self._follow()
        return list(self._figures.values())

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _follow(self) -> Sequence[Interface]:
        """A socket for each interface that sends, none for those that are gone or stand still; gives all there are."""
        found = self._find()
        for gone in self._sockets.keys() - {each for each in found if not each.standstill}:
            self._sockets.pop(gone).close()
        for interface in found:
            figures = self._figures_of(interface)
            if interface.standstill:
                self._report(figures, interface.standstill)
            elif interface not in self._sockets:
                try:
                    self._open(interface)
                except OSError as error:
                    self._report(figures, _reason(error))
                else:
                    if not figures.is_refused:
                        self._report(figures, "")
        self._forget({(each.name, each.broadcast) for each in found})
        return found

    def _forget(self, present: set[tuple[str, str]]) -> None:
        """Tell what is gone; an interface that has another network now needs no word about the old one."""
        for place in self._figures.keys() - present:
            if place[0] in {name for name, _ in present}:
                del self._figures[place]
            else:
                self._report(self._figures[place], "it has no address")

    def _open(self, interface: Interface) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_UNICAST_IF, _INDEX.pack(socket.if_nametoindex(interface.device)))
            sock.setblocking(False)
            sock.bind((interface.address, 0))
        except OSError:
            sock.close()
            raise
        self._sockets[interface] = sock
        return sock

    def _send_on(self, interface: Interface, datagram: bytes) -> bool:
        """Send once; a socket that lost its interface is made anew, as after a USB adapter was pulled and put back."""
        figures = self._figures_of(interface)
        sock = self._sockets.get(interface)
        if sock is None:
            return False
        try:
            try:
                sock.sendto(datagram, (interface.broadcast, self._port))
            except BlockingIOError:  # its queue is full: a new socket would change nothing
                raise
            except OSError:
                self._sockets.pop(interface).close()
                self._open(interface).sendto(datagram, (interface.broadcast, self._port))
        except OSError as error:
            figures.is_refused = True
            self._report(figures, _reason(error))
            return False
        figures.is_refused = False
        self._report(figures, "")
        return True

    def _figures_of(self, interface: Interface) -> Figures:
        place = interface.name, interface.broadcast
        return self._figures.setdefault(place, Figures(*place))

    def _report(self, figures: Figures, problem: str) -> None:
        if problem and not figures.problem:
            _log.warning("cannot broadcast on %s: %s", figures.interface, problem)
        elif figures.problem and not problem:
            _log.info("broadcasts go out on %s again", figures.interface)
        figures.problem = problem


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
