"""GATT as a link: a Bluetooth LE connection to each board that wants one, or that something is to be sent to.

Boards are peripherals and this end is the central. Bluetooth itself is at the other side of `Carrier`, which the
composition passes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class BoardConnection(Protocol):
    """One connection to a board, which is subscribed to the values that the board sends.

    `value_max` is the largest number of octets that a value may have in either direction, 20 to 512.
    """

    value_max: int

    async def write(self, value: bytes) -> None:
        """Write one value to the board, and return when its radio has it. Raises OSError if it was not accepted."""
        ...

    async def close(self) -> None:
        """End the connection. It may be called repeatedly, and after it was lost. Raises nothing."""
        ...


class Carrier(Protocol):
    """The central role of a Bluetooth radio, with the service of boards (`cpns.numbers.BLE_SERVICE`)."""

    async def connect(
        self, address: str, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> BoardConnection:
        """Connect to the board that advertises with `address`, agree on the longest values, and subscribe.

        `received` is called with each value that the board sends, in the order in which they arrive. `lost` is called
        once when the connection has ended for any other reason than its `close`. Raises OSError. A caller that does not
        want to wait any longer cancels the call, after which there is no connection.
        """
        ...
