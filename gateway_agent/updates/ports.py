"""The interface through which updates are broadcast. `gateway_agent/app.py` names the concrete part."""

from collections.abc import Callable
from typing import Protocol

from gateway_agent.core.ports import Broadcast


class QuickAir(Protocol):
    """The broadcast media that are quick enough for updates, as in `radios.air.AllMedia`."""

    def pace_s(self, octets: int) -> float | None:
        """Return the seconds from one datagram of so many octets to the next; None if no quick medium is up."""
        ...

    @property
    def is_taken(self) -> bool:
        """True while a key, a delete or a beacon is on the air on one of them."""
        ...

    def once(self, datagram: bytes, ended: Callable[[], None]) -> Broadcast:
        """Begin to send a datagram once on each of them; `ended` is called when that is done, unless it is stopped."""
        ...
