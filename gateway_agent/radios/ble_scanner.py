"""The contract of a scanner, which reports the adverts of boards (docs/protocol.md, "Adverts" and "GATT")."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Advert:
    """One advert of a device that may be a board. Nothing of it is authenticated.

    `address`: the Bluetooth address, upper case, as "AA:BB:CC:DD:EE:FF"; `company`: the content of the manufacturer
    data of this home's company id, None if there is none; `offers`: whether it can be connected to and has the service
    of boards; `wants`: whether it asks to be connected to; `rssi`: strength of the signal in dBm.
    """

    address: str
    company: bytes | None
    offers: bool
    wants: bool
    rssi: int


class Scanner(Protocol):
    """A radio that listens for adverts. A failure of it affects neither sending nor other media."""

    @property
    def problem(self) -> str:
        """Why nothing is heard now, in words with the next step, "" if nothing is wrong."""
        ...

    def open(self, heard: Callable[[Advert], None]) -> None:
        """Begin to listen, and keep listening when the radio fails and comes back; call `heard` for each advert.

        Adverts of other companies and services are left out.
        """
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...
