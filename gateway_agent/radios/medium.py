"""The contract of a broadcast medium: one to many, datagrams out, frames in (CPNS-GKM-71).

A medium is one file in this folder and one line in `by_kind.KINDS`. It knows its own radio and nothing of groups, keys
or deliveries. Everything that concerns several media, or the same datagram more than once, is in `air`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

News = Callable[[], None]
"""Called without arguments when `Medium.up` may have changed."""
Heard = Callable[[bytes], None]
"""Called with one whole datagram that came in. Nobody knows the sender: it is hostile until it proves something."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often one datagram is aired on a medium so that all who listen get it."""

    gap_s: float
    """Seconds from the beginning of one copy to the beginning of the next."""
    loss: float
    """Share of the copies that a listener is expected to miss, 0 to below 1; 0 where a copy is repeated in itself."""
    copies_max: int = 8

    def copies(self, listeners: int) -> int:
        """Return the copies after which fewer than two of so many listeners are expected to have missed all.

        At least 1.
        """
        copies = 1
        while listeners * self.loss**copies >= 2 and copies < self.copies_max:
            copies += 1
        return copies


@dataclass
class Health:
    """What became of the datagrams on one network of a medium since the start.

    `interface` is the device's name and `broadcast` the address that datagrams go to, "-" where there is none.
    `problem`: in words, why none goes out now; `is_refused`: it was seen when one was to be sent.
    """

    interface: str
    broadcast: str
    sent: int = 0
    failed: int = 0
    problem: str = ""
    is_refused: bool = False


class Airing:
    """One datagram on its way out. `ended` is the result: True when the datagram has gone out on some network.

    The medium calls `end`; whoever began the airing may call `stop`, after which nothing of the datagram leaves.
    """

    def __init__(self, stop: Callable[[], None] = lambda: None) -> None:
        """`stop` takes back, in the same call, whatever the radio has not sent yet."""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._stop = stop

    def end(self, has_gone_out: bool) -> None:
        """Say how it went. An airing that has ended stays as it is."""
        if not self.ended.done():
            self.ended.set_result(has_gone_out)

    def stop(self) -> None:
        """End it in this call (SEC-38). An airing that has ended stays as it is."""
        if not self.ended.done():
            self.ended.cancel()
            self._stop()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to try when a medium is down or refuses, from the mildest to the harshest.

    `what` completes "tried to ..." in a sentence for people. `take` may raise whatever it likes.
    """

    what: str
    take: Callable[[], Awaitable[None] | None]


class Medium(Protocol):
    """One broadcast medium, such as all IP networks of this machine or one Bluetooth adapter.

    No method but `close` waits, and what a method raises stops no other medium. Several airings may be under way at
    once, and the medium shares its radio among them; one with the octets of an earlier one may go on where that ended.
    """

    @property
    def name(self) -> str:
        """A short name for people and logs, such as "wifi"."""
        ...

    @property
    def repetition(self) -> Repetition:
        """How the medium wants its datagrams to be repeated."""
        ...

    @property
    def unicast_s(self) -> float:
        """Seconds that a unicast takes on the same radio before its first octet; 0 where it needs no connection."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """What is tried in turn when the medium is down or refuses; empty where nothing can be tried."""
        ...

    @property
    def up(self) -> bool:
        """True while datagrams can be expected to go out."""
        ...

    def open(self, news: News, heard: Heard) -> None:
        """Begin to listen and to watch the radio."""
        ...

    def airtime_s(self, octets: int) -> float:
        """Seconds that one datagram of so many octets occupies the radio, more than 0."""
        ...

    def air(self, datagram: bytes) -> Airing:
        """Begin to send one datagram, once, on all networks of the medium."""
        ...

    def networks(self) -> list[str]:
        """Return what the medium reaches now, for people."""
        ...

    def health(self) -> list[Health]:
        """Figures and problems of each network there is or was."""
        ...

    async def close(self) -> None:
        """Stop all airings and give the radio back."""
        ...
