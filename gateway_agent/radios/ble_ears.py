"""What is used beside the sender of adverts: the scanner that hears boards, and the carrier of connections to them.

A controller of its own brings both. Beside a sender on an adapter of the machine they go by bluetoothd, for which the
package bleak of the extra `ble` is needed. It is imported when it is needed; without it the gateway sends all the same.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway_agent.radios.ble_scanner import Advert, Scanner
from gateway_agent.radios.ble_sender import BleSender
from message_plane.links.gatt import BoardConnection, Carrier

if TYPE_CHECKING:
    from gateway_agent.radios.ble import BleSection


class Deaf:
    """Implements `Scanner` where none can be had."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def open(self, heard: Callable[[Advert], None]) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Ears:
    """Implements `Carrier` by the one that belongs to the sender in use; before there is one nothing is connected."""

    def __init__(self, section: "BleSection", counters: Counter[str]) -> None:
        self._section = section
        self._counters = counters
        self._scanner: Scanner | None = None
        self._carrier: Carrier | None = None

    def beside(self, sender: BleSender | None) -> Scanner | None:
        """Return the scanner beside a sender, None without one. It is the same for each call with a sender."""
        if sender is not None and self._scanner is None:
            self._scanner, self._carrier = sender.scanner, sender.carrier
            if self._scanner is None:
                self._scanner, self._carrier = self._of_bluez(sender)
        return self._scanner

    async def connect(
        self, address: str, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> BoardConnection:
        """Connect to a board. Raises OSError."""
        if self._carrier is None:
            raise OSError("there is no radio for connections")
        return await self._carrier.connect(address, received, lost)

    def _of_bluez(self, sender: BleSender) -> tuple[Scanner, Carrier | None]:
        try:
            from gateway_agent.radios.bleak_carrier import BluezCarrier
            from gateway_agent.radios.bleak_scanner import BluezScanner
        except ImportError as missing:
            package = (missing.name or "of the extra ble").partition(".")[0]
            return Deaf(f"the package {package} is not installed. Next: pip install 'keycast[ble]'"), None
        section = self._section
        named = "" if section.adapter == "auto" else section.adapter
        scanner = BluezScanner(lambda: sender.adapter or named, section.company_id, self._counters)
        return scanner, BluezCarrier(scanner)
