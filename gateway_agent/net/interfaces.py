"""The machine's IPv4 interfaces and their directed broadcast addresses.

The only module that imports `netifaces` (package netifaces-plus). Other packages that offer the same import name
call the mask `mask` and leave `broadcast` out; both are taken care of here, so any of them serves.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import netifaces

from gateway_agent.errors import NoBroadcastInterface

AUTO = "auto"


@dataclass(frozen=True)
class Interface:
    """One IPv4 address of one interface. `broadcast` is the directed broadcast address of its network."""

    name: str
    address: str
    broadcast: str

    @property
    def is_loopback(self) -> bool:
        """True for addresses of 127.0.0.0/8."""
        return ipaddress.ip_address(self.address).is_loopback


def ipv4_interfaces() -> list[Interface]:
    """All IPv4 addresses of this machine whose network has a directed broadcast address, in the system's order."""
    found = []
    for name in netifaces.interfaces():
        try:
            records = netifaces.ifaddresses(name).get(netifaces.AF_INET, ())
        except ValueError:  # it went away since its name was read: a USB adapter was pulled
            continue
        for record in records:
            interface = interface_from(name, record)
            if interface is not None:
                found.append(interface)
    return found


def interface_from(name: str, record: Mapping[str, str]) -> Interface | None:
    """An `Interface` from one netifaces record (`addr`, `netmask` or `mask`), None without mask or for /31 and /32.

    The broadcast address is computed from address and mask and never taken from the record: point-to-point
    links report their peer there, and some packages nothing.
    """
    mask = record.get("netmask") or record.get("mask")
    if mask is None or "addr" not in record:
        return None
    network = ipaddress.IPv4Network(f"{record['addr']}/{mask}", strict=False)
    if network.prefixlen > 30:
        return None
    return Interface(name, record["addr"], str(network.broadcast_address))


def matching(wanted: Iterable[str], available: Iterable[Interface]) -> list[Interface]:
    """Those of `available` that `wanted` means: interface names, or the one word "auto" for all but loopback."""
    names = list(wanted)
    if names == [AUTO]:
        return [interface for interface in available if not interface.is_loopback]
    return [interface for interface in available if interface.name in names]


def choose(wanted: Iterable[str], available: Iterable[Interface]) -> list[Interface]:
    """`matching`, for the start of a gateway: what was asked for must be there.

    Raises NoBroadcastInterface when a name does not exist or nothing is left.
    """
    names = list(wanted)
    every = list(available)
    known = ", ".join(sorted({interface.name for interface in every})) or "none"
    for name in names:
        if name not in (AUTO, *(interface.name for interface in every)):
            raise NoBroadcastInterface(
                f"Interface {name!r} under [broadcast] interfaces does not exist or has no IPv4 address.",
                f"Choose among: {known}.",
            )
    chosen = matching(names, every)
    if not chosen:
        raise NoBroadcastInterface(
            f"No network interface can broadcast over IPv4 (seen: {known}).",
            'Connect to the network, or name an interface under [broadcast] interfaces, for example ["wlan0"].',
        )
    return chosen
