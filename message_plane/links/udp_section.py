"""The section of the link over UDP: at which addresses this end listens.

This module imports nothing of the link, because every command that reads a configuration needs it.
"""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cpns import numbers

SCHEME = "udp"
"""With which the places of the link begin."""


def _ipv4(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
        if address.is_multicast or address == _BROADCAST:  # Linux would let a socket bind to them
            raise ValueError
    except ValueError:
        raise ValueError('an IPv4 address of this machine, or "0.0.0.0" for all of them') from None
    return str(address)


def _once(addresses: list[str]) -> list[str]:
    if len(set(addresses)) < len(addresses) or ("0.0.0.0" in addresses and len(addresses) > 1):
        raise ValueError('each address once, and "0.0.0.0", which is all of them, alone')
    return addresses


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_Ipv4 = Annotated[str, AfterValidator(_ipv4)]


class UdpSection(BaseModel):
    """The addresses at which this end listens for UDP."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    listen: Annotated[list[_Ipv4], AfterValidator(_once)] = Field(
        ["0.0.0.0"], min_length=1, description="IPv4 addresses to listen on"
    )
    port: int = Field(numbers.PORT_COAP, ge=1, le=65535, description="UDP port (CoAP)")
