"""The air itself: which controller hears which advert, and the data of connections.

Bumble's own link loses nothing and sends each controller everything. Here an advert gets lost for each receiver by
itself, and a receiver hears only while it listens. Data of connections never get lost, as the link layer repeats them.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bumble import ll
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.hci import Address, HCI_ErrorCode
from bumble.link import LocalLink

if TYPE_CHECKING:
    from gateway_agent.radios.virtual_air.controller import AirController

INTERVAL_MIN_S = 0.020
"""Shortest interval of adverts that a controller has (Core Specification, volume 6, part B, 4.4.2.2)."""
JITTER_S = 0.010
"""A controller waits up to so long beyond its interval before each advert (the same place)."""
RSSI = -55
"""dBm at which all controllers hear each other."""


@dataclass(frozen=True, slots=True)
class AdvertPdu(ll.AdvertisingPdu):
    """One advert on the air. `response` is the answer to an active scan; `kind` the type of the PDU (0 to 3)."""

    advertiser_address: Address
    kind: int
    data: bytes
    response: bytes = b""

    @property
    def connectable(self) -> bool:
        """True if a central may connect to the advertiser."""
        return self.kind == 0


@dataclass(frozen=True, slots=True)
class Ear:
    """How well one controller hears and is heard.

    `loss` is the probability that an advert from or to it is lost. If `interval_s` is not 0, it listens only for
    `window_s` of each interval, as a controller does whose Wi-Fi has the antenna for the rest of the time.
    """

    loss: float = 0.0
    window_s: float = 0.0
    interval_s: float = 0.0


class VirtualAir(LocalLink):
    """An air with the controllers of this process. Sniffers are called with each advert and its sender."""

    def __init__(self, seed: int | None = None) -> None:
        """`seed` is that of all random numbers: losses, and the times between adverts."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.random = random.Random(seed)
        self.sniffers: list[Callable[[Controller, AdvertPdu], None]] = []
        self.adverts = 0
        self.receptions = 0
        self._members: list[AirController] = []
        self._pairs: dict[tuple[str, str], float] = {}

    def set_loss(self, sender: str, receiver: str, loss: float) -> None:
        """Lose adverts from one controller to another, named by their addresses, with this probability instead.

        It replaces what follows from the ears of both.
        """
        self._pairs[sender, receiver] = loss

    def pause_s(self, interval_s: float) -> float:
        """Return how long a controller with this interval waits from one advert to the next."""
        return max(interval_s, INTERVAL_MIN_S) + self.random.random() * JITTER_S

    def send_advertising_pdu(self, sender_controller: Controller, packet: ll.AdvertisingPdu) -> None:
        """Send an advert to all who hear it, or the request for a connection to its advertiser, before returning."""
        if isinstance(packet, AdvertPdu):
            self._send_advert(sender_controller, packet)
        else:
            for each in list(self._members):
                if each is not sender_controller:
                    each.on_ll_advertising_pdu(packet)

    def send_acl_data(
        self,
        sender_controller: Controller,
        destination_address: Address,
        transport: PhysicalTransport,
        data: bytes,
    ) -> None:
        """Send data over a connection.

        Bumble takes the sender's present random address for that of the connection, which may be another one.
        """
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is not None and receiver is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)

    def add_controller(self, controller: Controller) -> None:
        """Put a controller on the air, as its constructor does."""
        super().add_controller(controller)
        self._members.append(cast("AirController", controller))

    def remove_controller(self, controller: Controller) -> None:
        """Take a controller off the air, as if its power was cut. The peers of its connections lose them at once."""
        super().remove_controller(controller)
        self._members.remove(cast("AirController", controller))
        controller.le_legacy_advertiser.stop()
        for each in controller.advertising_sets.values():
            each.stop()
        for connection in controller.le_connections.values():
            peer = self.find_le_controller(connection.peer_address)
            theirs = peer.le_connections.get(connection.self_address) if peer is not None else None
            if peer is not None and theirs is not None:
                peer.on_le_disconnected(theirs, HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)

    def _send_advert(self, sender: Controller, advert: AdvertPdu) -> None:
        self.adverts += 1
        for sniffer in self.sniffers:
            sniffer(sender, advert)
        now = asyncio.get_running_loop().time()
        for each in list(self._members):
            if each is not sender and each.listens(now) and self.random.random() >= self._loss(sender, each):
                self.receptions += 1
                each.hear(advert)

    def _loss(self, sender: Controller, receiver: "AirController") -> float:
        own = self._pairs.get((sender.name, receiver.name))
        return 1 - (1 - cast("AirController", sender).ear.loss) * (1 - receiver.ear.loss) if own is None else own
