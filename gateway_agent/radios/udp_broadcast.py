"""Wi-Fi and Ethernet as a broadcast medium: one UDP datagram to the directed broadcast address of each network.

Datagrams to 255.255.255.255 would leave by one interface only, which the routing table chooses; CPNS-GKM-71 requires
all of them. For the same reason each socket is bound to its interface, as two interfaces may be in one network.
"""

import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from cpns import numbers, tuning
from gateway_agent.net import interfaces as net
from gateway_agent.net.interfaces import Interface
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.radios.medium import Airing, Health, Heard, HomeOnAir, News, Repetition, Step
from gateway_agent.repeating import Repeating

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.5
"""How soon an interface that comes back is noticed. The next datagram notices it, too."""
_IP_UNICAST_IF = 50  # ip(7): the interface that datagrams leave by; every user may set it, and broadcasts follow it
_INDEX = struct.Struct("!I")
_OCTET_S, _FRAME_S = 8e-6, 1e-3  # time of a broadcast on Wi-Fi, which is sent at the lowest rate, 1 Mbit/s


SECTION = BroadcastSection


def open_medium(section: BroadcastSection, counters: Counter[str]) -> "UdpBroadcast | None":
    """Return the medium for the named interfaces, None if none is named. Raises NoBroadcastInterface."""
    wanted = section.interfaces
    if not wanted:
        return None
    net.choose(wanted, net.ipv4_interfaces())  # reports a wrong name now instead of at the first key
    watched = net.WatchedInterfaces()
    return UdpBroadcast(
        lambda: net.matching(wanted, watched.now()), port=section.port, counters=counters, at_close=watched.close
    )


class UdpBroadcast:
    """Implements `Medium` over all chosen interfaces. An interface that fails does not affect the others.

    `interfaces` is called before each datagram, so that the address that an interface has now is used (DHCP, a network
    that comes back). `counters` counts `broadcast_sent` and `broadcast_failed`, for each datagram and network.
    `at_close` is called when the medium has closed its sockets.
    """

    name = "wifi"
    repetition = Repetition(gap_s=0.31, loss=0.1)
    """Stations that sleep receive broadcasts once in each gap: beacon interval 102.4 ms x DTIM 3."""
    unicast_s = 0.0
    links = ()
    radio = None

    def __init__(
        self,
        interfaces: Callable[[], Sequence[Interface]],
        *,
        port: int = numbers.PORT_BROADCAST,
        counters: Counter[str] | None = None,
        at_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._find = interfaces
        self._at_close = at_close
        self._port = port
        self._sockets: dict[Interface, socket.socket] = {}
        self._health: dict[tuple[str, str], Health] = {}
        self.counters: Counter[str] = Counter() if counters is None else counters
        self.steps = (Step("open its sockets anew", self._reopen),)
        self._watch: Repeating | None = None
        self._follow()

    @property
    def up(self) -> bool:
        """True if there is an interface that can send."""
        self._follow()
        return bool(self._sockets)

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces with an open socket."""
        return list(self._sockets)

    def open(self, news: News, heard: Heard, home: HomeOnAir) -> None:
        """Begin to call `news` every few seconds, so that a change of the interfaces is noticed.

        `heard` is never called, because PNEs answer over their sessions.
        """
        self._watch = Repeating("watch over the networks", LOOK_EVERY_S, news)
        self._watch.start()

    def airtime_s(self, octets: int) -> float:
        """Return the seconds that a datagram needs on a Wi-Fi network; Ethernet is faster."""
        return _FRAME_S + octets * _OCTET_S

    def air(self, datagram: bytes) -> Airing:
        """Send a datagram once to each network. The airing has ended when this method returns.

        Raises ValueError for a datagram above 1,400 octets, as it would be fragmented.
        """
        if len(datagram) > tuning.BROADCAST_OBJECT_MAX:
            raise ValueError(f"a broadcast datagram of {len(datagram)} octets would be fragmented")
        sent = 0
        for interface in self._follow():
            health = self._health_of(interface)
            if self._send_on(interface, datagram):
                sent += 1
                health.sent += 1
                self.counters["broadcast_sent"] += 1
            else:
                health.failed += 1
                self.counters["broadcast_failed"] += 1
        airing = Airing()
        airing.end(sent > 0)
        return airing

    def networks(self) -> list[str]:
        """Return interface and directed broadcast address of each network that can be sent to now."""
        self._follow()
        return [f"{interface.name} {interface.broadcast}" for interface in self._sockets]

    def health(self) -> list[Health]:
        """Return figures and problems of each network that the medium has or had."""
        self._follow()
        return list(self._health.values())

    async def close(self) -> None:
        """Stop the watch over the networks and close all sockets."""
        if self._watch is not None:
            await self._watch.close()
        self._close_sockets()
        self._at_close()

    def _reopen(self) -> None:
        self._close_sockets()
        self._follow()

    def _close_sockets(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _follow(self) -> Sequence[Interface]:
        """Open and close sockets so that exactly the interfaces that can send have one; return all interfaces found."""
        found = self._find()
        for gone in self._sockets.keys() - {each for each in found if not each.standstill}:
            self._sockets.pop(gone).close()
        for interface in found:
            health = self._health_of(interface)
            if interface.standstill:
                self._report(health, interface.standstill)
            elif interface not in self._sockets:
                try:
                    self._open(interface)
                except OSError as error:
                    self._report(health, _reason(error))
                else:
                    if not health.is_refused:
                        self._report(health, "")
        self._forget({(each.name, each.broadcast) for each in found})
        return found

    def _forget(self, present: set[tuple[str, str]]) -> None:
        """Report networks that are gone, and drop the figures of those whose interface has another network now."""
        for place in self._health.keys() - present:
            if place[0] in {name for name, _ in present}:
                del self._health[place]
            else:
                self._report(self._health[place], "it has no address")

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
        """Send a datagram once; return whether it was sent.

        A socket that has lost its interface is opened anew, for example after a USB adapter was pulled and put back.
        """
        health = self._health_of(interface)
        sock = self._sockets.get(interface)
        if sock is None:
            return False
        try:
            try:
                sock.sendto(datagram, (interface.broadcast, self._port))
            except BlockingIOError:  # the send queue is full, which a new socket would not change
                raise
            except OSError:
                self._sockets.pop(interface).close()
                self._open(interface).sendto(datagram, (interface.broadcast, self._port))
        except OSError as error:
            health.is_refused = True
            self._report(health, _reason(error))
            return False
        health.is_refused = False
        self._report(health, "")
        return True

    def _health_of(self, interface: Interface) -> Health:
        place = interface.name, interface.broadcast
        return self._health.setdefault(place, Health(*place))

    def _report(self, health: Health, problem: str) -> None:
        if problem and not health.problem:
            _log.warning("KC1120 cannot broadcast on %s: %s", health.interface, problem)
        elif health.problem and not problem:
            _log.info("broadcasts go out on %s again", health.interface)
        health.problem = problem


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
