"""All broadcast media of the PN GW as one: a datagram goes out on each of them (CPNS-GKM-71)."""

from collections.abc import Sequence
from typing import Protocol

from gateway_agent.radios.udp_broadcast import Figures


class Medium(Protocol):
    """One broadcast medium. `name` is "wifi" for IP networks, "ble" for BLE advertising."""

    name: str

    def send(self, datagram: bytes) -> int:
        """Send once; return on how many networks it went out, 0 when the medium is down."""
        ...

    def networks(self) -> list[str]:
        """What it reaches, for people."""
        ...

    def figures(self) -> list[Figures]:
        """What became of the datagrams, for each network."""
        ...

    def close(self) -> None:
        """Give the radio back."""
        ...


class AllMedia:
    """`core.ports.Broadcast` over any number of media; one that fails never stops another."""

    def __init__(self, media: Sequence[Medium]) -> None:
        self._media = list(media)

    @property
    def media(self) -> frozenset[str]:
        """Names of the media there are."""
        return frozenset(medium.name for medium in self._media)

    def send(self, datagram: bytes) -> int:
        """Send on every medium; the number of networks it went out on."""
        return sum(medium.send(datagram) for medium in self._media)

    def networks(self) -> list[str]:
        """What all media reach, for people."""
        return [network for medium in self._media for network in medium.networks()]

    def figures(self) -> list[Figures]:
        """What became of the datagrams, for each network of all media."""
        return [figures for medium in self._media for figures in medium.figures()]

    def close(self) -> None:
        """Close every medium."""
        for medium in self._media:
            medium.close()
