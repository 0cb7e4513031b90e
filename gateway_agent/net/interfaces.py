"""The machine's IPv4 interfaces, their directed broadcast addresses, and which of them broadcasts are sent on.

No other module imports `netifaces` (package netifaces-plus). Some other packages with the same import name call the
mask `mask` and leave `broadcast` out. This module works with any of them.
"""

import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway_agent.errors import NoBroadcastInterface
from gateway_agent.net.devices import DeviceNews, network_devices, why_no_boards

_log = logging.getLogger(__name__)

AUTO = "auto"
ANY_ADDRESS = "0.0.0.0"
_NO_ADDRESS = "no IPv4 address"
_NO_BROADCAST = "a network without a broadcast address"
_NOT_NAMED = "not under [broadcast] interfaces"


@dataclass(frozen=True)
class Interface:
    """One IPv4 address of one interface. `broadcast` is the directed broadcast address of its network.

    `unfit`: why no board can be behind it, "" if boards can be; `standstill`: why it cannot send now, "" if it can.
    These two do not count when interfaces are compared. `address` and `broadcast` are "" if there is none.
    """

    name: str
    address: str
    broadcast: str
    unfit: str = field(default="", compare=False)
    standstill: str = field(default="", compare=False)

    @property
    def device(self) -> str:
        """The name of the network device, without the label that `name` may have for a second address ("eth0:1")."""
        return self.name.partition(":")[0]

    @property
    def is_loopback(self) -> bool:
        """True for addresses of 127.0.0.0/8."""
        return bool(self.address) and ipaddress.ip_address(self.address).is_loopback

    @property
    def is_link_local(self) -> bool:
        """True for addresses of 169.254.0.0/16, which a machine gives itself if no DHCP server answers."""
        return bool(self.address) and ipaddress.ip_address(self.address).is_link_local

    @property
    def left_out(self) -> str:
        """Why "auto" excludes the interface, "" if it includes it."""
        if self.is_loopback:
            return "loopback"
        if self.unfit or self.broadcast:
            return self.unfit or ("link-local: no DHCP server gave it an address" if self.is_link_local else "")
        return _NO_BROADCAST if self.address else _NO_ADDRESS


def every_interface() -> list[Interface]:
    """Return all IPv4 addresses of this machine, and the devices that have none, in the system's order."""
    import netifaces  # belongs to the extra `gateway`; a configuration can be read without it

    try:
        known = network_devices()
    except OSError as error:
        _log.warning("KC1101 every interface counts as one with boards: %s", error)
        known = {}
    devices = {device.name: device for device in known.values()}
    found = []
    for name in netifaces.interfaces():
        try:
            records = netifaces.ifaddresses(name).get(netifaces.AF_INET, ())
        except ValueError:  # it is gone since its name was read, for example a USB adapter
            continue
        link = devices.get(name.partition(":")[0])
        unfit, standstill = (why_no_boards(link, known), link.standstill) if link else ("", "")
        for record in records or ({},):
            found.append(
                interface_from(name, record, unfit, standstill)
                or Interface(name, record.get("addr", ""), "", unfit, standstill)
            )
    return found


def ipv4_interfaces() -> list[Interface]:
    """Return those of `every_interface` whose network has a directed broadcast address."""
    return [interface for interface in every_interface() if interface.broadcast]


class WatchedInterfaces:
    """The result of `ipv4_interfaces`, which is found anew only after the kernel has told of a change.

    A cable that is pulled a second time within a second is told at the end of that second.
    """

    def __init__(self) -> None:
        self._news: DeviceNews | None = None
        self._found: list[Interface] | None = None
        try:
            self._news = DeviceNews()
        except OSError as error:
            self._do_without(error)

    def now(self) -> list[Interface]:
        """Return the IPv4 interfaces that there are now."""
        try:
            if self._found is None or self._news is None or self._news.any_since():
                self._found = ipv4_interfaces()
        except OSError as error:
            self._do_without(error)
            self._found = ipv4_interfaces()
        return self._found

    def close(self) -> None:
        """Stop listening to the kernel. `now` may still be called."""
        if self._news is not None:
            self._news.close()
            self._news = None

    def _do_without(self, error: OSError) -> None:
        _log.warning("KC1103 the networks are looked up anew each time: %s", error)
        self.close()


def interface_from(name: str, record: Mapping[str, str], unfit: str = "", standstill: str = "") -> Interface | None:
    """Return the `Interface` of a netifaces record (`addr`, `netmask` or `mask`), None without mask or for /31, /32.

    The broadcast address is computed from address and mask and never read from the record, as point-to-point links
    report their peer there, and some packages report nothing.
    """
    mask = record.get("netmask") or record.get("mask")
    if mask is None or "addr" not in record:
        return None
    network = ipaddress.IPv4Network(f"{record['addr']}/{mask}", strict=False)
    if network.prefixlen > 30:
        return None
    return Interface(name, record["addr"], str(network.broadcast_address), unfit, standstill)


def device_towards(host: str) -> str:
    """Return the device through which the routing table sends datagrams to an IPv4 address, "" if there is none.

    No datagram is sent.
    """
    if not host or ":" in host:
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host, 9))  # any port
        except OSError:
            return ""
        own = sock.getsockname()[0]
    return next((interface.device for interface in ipv4_interfaces() if interface.address == own), "")


def named(wanted: Iterable[str], available: Iterable[Interface]) -> list[Interface]:
    """Return the interfaces of `available` that `wanted` names. A name is that of a device or of a single address.

    "auto" names all interfaces that are not `left_out`.
    """
    names = set(wanted)
    return [
        interface
        for interface in available
        if {interface.name, interface.device} & names or (AUTO in names and not interface.left_out)
    ]


def matching(wanted: Iterable[str], available: Iterable[Interface]) -> list[Interface]:
    """Return the interfaces that broadcasts are sent on: one address for each device and network that `named` finds."""
    networks: dict[tuple[str, str], Interface] = {}
    for interface in named(wanted, available):
        if interface.broadcast:
            networks.setdefault((interface.device, interface.broadcast), interface)
    return list(networks.values())


def choose(wanted: Iterable[str], available: Iterable[Interface]) -> list[Interface]:
    """Return the same as `matching`, with a check that all names exist, for the start of a gateway.

    Raises NoBroadcastInterface if a name does not exist or no interface is left.
    """
    names = list(wanted)
    every = list(available)
    usable = {name for interface in every if interface.broadcast for name in (interface.name, interface.device)}
    for name in names:
        if name != AUTO and name not in usable:
            raise NoBroadcastInterface(
                f"Interface {name!r} under [broadcast] interfaces does not exist or has no IPv4 address.",
                f"Choose among: {', '.join(sorted(usable)) or 'none'}.",
            )
    chosen = matching(names, every)
    if not chosen:
        seen = "; ".join(f"{each.name}: {why}" for each, why in left_out(names, every)) or "none"
        raise NoBroadcastInterface(
            f"No network interface can broadcast over IPv4 (seen: {seen}).",
            'Connect to the network, or name an interface under [broadcast] interfaces, for example ["wlan0"].',
        )
    return chosen


def left_out(wanted: Iterable[str], available: Iterable[Interface]) -> list[tuple[Interface, str]]:
    """Return the interfaces of `available` that no broadcast is sent on, each with the reason."""
    names, every = list(wanted), list(available)
    chosen = matching(names, every)
    networks = {(each.device, each.broadcast): each for each in chosen}
    found = []
    for interface in every:
        if interface not in chosen:
            same = networks.get((interface.device, interface.broadcast))
            reason = (f"{same.address} is in the same network" if same else "") or interface.left_out or _NOT_NAMED
            found.append((interface, reason))
    return found


def reachable(wanted: Iterable[str], listen: Iterable[str], available: Iterable[Interface]) -> list[str]:
    """Return the addresses to announce to boards: those of interfaces that can send now and that have a listener.

    `wanted`: names as in `named`, empty if keys are sent by unicast only, which then means "auto"; `listen`: the
    addresses that the gateway is bound to. Loopback and link-local addresses are never among them.
    """
    heard = set(listen)
    return [
        interface.address
        for interface in named(list(wanted) or [AUTO], available)
        if interface.broadcast
        and not (interface.standstill or interface.is_loopback or interface.is_link_local)
        and heard & {interface.address, ANY_ADDRESS}
    ]
