"""The contract of a broadcast medium, which sends datagrams to all listeners and receives frames (CPNS-GKM-71).

A medium is one file in this folder and one line in `by_kind.KINDS`. It knows its own radio and nothing of groups, keys
or deliveries. Everything that concerns several media, or the repetition of a datagram, is in `air`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from message_plane.links.link import Link

News = Callable[[], None]
"""A function that the medium calls when `Medium.up` may have changed."""
Heard = Callable[[bytes], None]
"""A function that the medium calls with one whole datagram that it has received.

The sender is not authenticated: the datagram must count as hostile until its content is proven.
"""


class HomeOnAir(Protocol):
    """What a medium that enciphers its datagrams must know of the PN. The answers change while the gateway runs."""

    @property
    def pn_alias(self) -> int:
        """The PN alias in the PN's frames, 4 octets (docs/protocol.md section 5)."""
        ...

    def frame_keys(self, generation: int | None = None) -> list[bytes]:
        """Return the key of the adverts of a generation (SEC-10), 16 octets, or no key if the generation has ended.

        Without `generation`: the keys of all generations that boards may hold now, the current one first.
        """
        ...


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often a datagram is repeated on a medium so that all listeners get it."""

    gap_s: float
    """Seconds from the beginning of one copy to the beginning of the next."""
    loss: float
    """Share of the copies that a listener is expected to miss, from 0 to below 1.

    It is 0 if the medium repeats each copy by itself.
    """
    copies_max: int = 8

    def copies(self, listeners: int) -> int:
        """Return how many copies are sent to so many listeners, from 1 to `copies_max`.

        After this many copies fewer than two listeners are expected to have missed all, unless `copies_max` is less.
        """
        copies = 1
        while listeners * self.loss**copies >= 2 and copies < self.copies_max:
            copies += 1
        return copies


@dataclass
class Health:
    """How many datagrams one network of a medium has sent and failed to send since the start.

    `interface` is the device's name and `broadcast` the address that datagrams are sent to, "-" if there is none.
    `problem`: why nothing can be sent now, in words, "" if nothing is wrong; `is_refused`: the last datagram was
    refused; `deaf`: why boards are not heard, "" if they are or need not be.
    """

    interface: str
    broadcast: str
    sent: int = 0
    failed: int = 0
    problem: str = ""
    is_refused: bool = False
    deaf: str = ""


@dataclass(frozen=True, slots=True)
class Radio:
    """The radio of a medium at one moment, for people.

    `sender`: which of the ways to send it uses, "" for none; `adapter`: the device; `interval_ms`: milliseconds from
    one transmission of a payload to the next, as is really used, 0 while it is not known; `instances`: payloads on the
    air at the same time; `frame_s`: seconds from one payload to the next; `problem`: why nothing goes on the air, in
    words and with the next step, "" if nothing is wrong; `advice`: how it could be faster, "" if it could not;
    `in_vain`: why other senders cannot be used, by name.
    """

    sender: str
    adapter: str = ""
    interval_ms: float = 0.0
    instances: int = 0
    frame_s: float = 0.0
    problem: str = ""
    advice: str = ""
    in_vain: Mapping[str, str] = field(default_factory=dict)


class Airing:
    """The airing of one datagram. The future `ended` has the result: True if at least one network has sent it.

    The medium calls `end`. The caller of `Medium.air` may call `stop`, after which no part of the datagram is sent.
    `progress` returns a number that changes while the radio works: an airing that shares it with many others ends late,
    which is no failure.
    """

    def __init__(self, stop: Callable[[], None] = lambda: None, progress: Callable[[], int] = lambda: 0) -> None:
        """`stop` must cancel, before it returns, everything that the radio has not sent yet."""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.progress = progress
        self._stop = stop

    def end(self, has_gone_out: bool) -> None:
        """Set the result. Does nothing if the airing has ended."""
        if not self.ended.done():
            self.ended.set_result(has_gone_out)

    def stop(self) -> None:
        """Stop the airing before this call returns (SEC-38). Does nothing if it has ended.

        Raises the exceptions of the radio; the airing has not ended then, and the next call tries again.
        """
        if not self.ended.done():
            self._stop()
            self.ended.cancel()


@dataclass(frozen=True, slots=True)
class Step:
    """One step to try when a medium is down or refuses datagrams. The steps are ordered from mild to harsh.

    `what` completes "tried to ..." in a sentence for people. `take` does the step; it may raise any exception.
    """

    what: str
    take: Callable[[], Awaitable[None] | None]


class Medium(Protocol):
    """One broadcast medium, such as all IP networks of this machine or one Bluetooth adapter.

    No method except `close` waits. A method may raise any exception; the other media are not affected. Several airings
    may be under way at once, and the medium shares its radio among them. An airing of the same octets as an earlier one
    may continue where that one ended.
    """

    @property
    def name(self) -> str:
        """A short name for people and logs, such as "wifi"."""
        ...

    @property
    def repetition(self) -> Repetition:
        """How often datagrams must be repeated on this medium."""
        ...

    @property
    def unicast_s(self) -> float:
        """Seconds that a unicast takes on the same radio before its first octet; 0 where it needs no connection."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The steps to try, in this order, when the medium is down or refuses datagrams; may be empty.

        They may change while the medium runs. The property raises nothing.
        """
        ...

    @property
    def up(self) -> bool:
        """True while the medium can be expected to send datagrams."""
        ...

    @property
    def radio(self) -> Radio | None:
        """What to tell people of the radio; None if the medium has none to choose."""
        ...

    @property
    def links(self) -> Sequence[Link[Any]]:
        """The links for unicast that use the same radio. They are opened and closed apart from the medium."""
        ...

    def open(self, news: News, heard: Heard, home: HomeOnAir) -> None:
        """Begin to listen and to watch the radio: call `news` on changes of `up`, `heard` with each datagram.

        `home` is asked for names and keys by a medium that enciphers what it sends.
        """
        ...

    def airtime_s(self, octets: int) -> float:
        """Return how many seconds one datagram of so many octets occupies the radio, more than 0."""
        ...

    def air(self, datagram: bytes) -> Airing:
        """Begin to send one datagram, once, on all networks of the medium."""
        ...

    def networks(self) -> list[str]:
        """Return descriptions, for people, of the networks that the medium reaches now."""
        ...

    def health(self) -> list[Health]:
        """Return figures and problems of each network that the medium has or had."""
        ...

    async def close(self) -> None:
        """Stop all airings and release the radio."""
        ...
