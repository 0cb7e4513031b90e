"""The check of the announcement by mDNS, by which boards find the gateway."""

import socket
from collections.abc import Iterator

from gateway_agent.net import interfaces
from gateway_agent.net.mdns import SERVICE_TYPE, label_of
from keycast.doctor.finding import Finding, good, warning
from keycast.doctor.surroundings import Surroundings

WAIT_MS = 3000
_PAGE = "docs/gateway.md"
_STEP = "Let the firewall pass UDP port 5353. Boards still find the gateway by CoAP discovery and by its address."


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield whether the announcement of the running gateway is heard; without one, whether multicast works here."""
    if here.config is None:
        return
    if not here.config.message_plane.discovery:
        yield good("[message_plane] discovery is off: nothing is announced by mDNS")
        return
    plane = here.config.message_plane
    addresses = interfaces.reachable(here.config.broadcast.interfaces, plane.listen, interfaces.every_interface())
    if not addresses:
        yield warning("There is no address to announce by mDNS.", "See the line interfaces.", _PAGE)
        return
    if here.status is None:
        reason = _why_no_multicast(addresses)
        if reason:
            yield warning(f"mDNS does not work here: {reason}.", _STEP, _PAGE)
        else:
            yield good("mDNS can be used")
        return
    name = f"{label_of(here.config.gateway.id)}.{SERVICE_TYPE}"
    told = _announced(name, addresses)
    if told is None:
        yield warning(f"The announcement of {here.config.gateway.id} by mDNS is not heard.", _STEP, _PAGE)
    else:
        yield good(f"mDNS announces {here.config.gateway.id} at {', '.join(told) or 'no address'}")


def _announced(name: str, addresses: list[str]) -> list[str] | None:
    """Return the addresses that mDNS tells for a service, None if nobody answers."""
    from zeroconf import Error, Zeroconf

    try:
        with Zeroconf(interfaces=addresses) as zeroconf:
            info = zeroconf.get_service_info(SERVICE_TYPE, name, timeout=WAIT_MS)
    except (OSError, Error):
        return None
    return None if info is None else info.parsed_addresses()


def _why_no_multicast(addresses: list[str]) -> str:
    """Return why a socket cannot join the group of mDNS on these addresses, "" if it can."""
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                group = socket.inet_aton("224.0.0.251") + socket.inet_aton(address)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            except OSError as error:
                return f"{address}: {error.strerror}"
    return ""
