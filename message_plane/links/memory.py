"""A link inside one process, for tests.

Datagrams go through an `Ether`, which loses, doubles, delays and reorders them by a seed, the same in each run. No code
waits for a socket, so a test on a virtual clock needs no time.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field

from message_plane import tuning
from message_plane.errors import PeerUnreachable, PortInUse
from message_plane.links.link import DATAGRAM_MIN, Address, Link, Receive

_SCHEME = "memory"


class MemorySection(BaseModel):
    """The names at which this end listens inside the process."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    listen: list[str] = Field(["house:0"], min_length=1, description="names as host:number; number 0 for a free one")
    ether: str = Field("", description="name of the ether; all ends that name one reach each other")
    reliable: bool = Field(False, description="the ether loses, doubles and reorders nothing")
    datagram_max: int = Field(tuning.DATAGRAM_MAX, ge=DATAGRAM_MIN, description="octets of a datagram")


class Ether:
    """The medium between the links of one process.

    `loss`, `doubling` and `reordering` are the shares (0 to 1) of datagrams that are lost, arrive twice, or arrive
    after one that was sent later; `delay_s` is the longest delay. All may be changed at any time.
    """

    def __init__(
        self, seed: int = 0, *, loss: float = 0.0, doubling: float = 0.0, reordering: float = 0.0, delay_s: float = 0.0
    ) -> None:
        self.loss = loss
        self.doubling = doubling
        self.reordering = reordering
        self.delay_s = delay_s
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._ends: dict[str, tuple[MemoryLink, Receive]] = {}
        self._held: dict[str, list[tuple[str, bytes]]] = {}  # target -> datagrams that the next one will overtake

    def join(self, name: str, link: MemoryLink, receive: Receive) -> str:
        """Connect `link` to the name `name` (`host:number`) and return the name; number 0 is replaced by a free one.

        `receive` is called with each datagram to the name. Raises PortInUse.
        """
        host, _, number = name.rpartition(":")
        if number == "0":
            name = f"{host}:{next(self._numbers) + 40_000}"
        if name in self._ends:
            raise PortInUse(f"{name} is used by another link of this process")
        self._ends[name] = link, receive
        return name

    def leave(self, name: str) -> None:
        """Undo `join`. Datagrams that are under way to `name` are lost."""
        self._ends.pop(name, None)
        self._held.pop(name, None)

    def send(self, source: str, target: str, datagram: bytes) -> None:
        """Carry one datagram from the name `source` to the name `target`, or lose it."""
        if self._random.random() < self.loss:
            return
        if self._random.random() < self.reordering and target not in self._held:
            self._held[target] = [(source, datagram)]
            return
        copies = 2 if self._random.random() < self.doubling else 1
        for each_source, each in [(source, datagram)] * copies + self._held.pop(target, []):
            self._arrives(each_source, target, each)

    def _arrives(self, source: str, target: str, datagram: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self.delay_s:
            loop.call_later(self._random.uniform(0, self.delay_s), self._deliver, source, target, datagram)
        else:
            loop.call_soon(self._deliver, source, target, datagram)

    def _deliver(self, source: str, target: str, datagram: bytes) -> None:
        end = self._ends.get(target)
        if end is not None:
            link, receive = end
            receive(datagram[: link.datagram_max + 1], MemoryAddress(link, target, source))


class MemoryAddress(Address):
    """A peer's name in the ether, as seen from one name of this end."""

    __slots__ = ("name", "own")

    def __init__(self, link: MemoryLink, own: str, name: str) -> None:
        super().__init__(link)
        self.own = own
        self.name = name

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MemoryAddress)
            and self.name == other.name
            and self.own == other.own
            and self.link is other.link
        )

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<MemoryAddress {self.name}>"

    @property
    def place(self) -> str:
        return f"{_SCHEME}:{self.name}"

    @property
    def counted_as(self) -> str:
        return f"{_SCHEME}:{self.name.rpartition(':')[0]}"


class MemoryLink(Link[MemoryAddress]):
    """The names of one end in an ether."""

    scheme = _SCHEME

    def __init__(
        self,
        ether: Ether,
        listen: Sequence[str] = ("house:0",),
        *,
        reliable: bool = False,
        datagram_max: int = tuning.DATAGRAM_MAX,
    ) -> None:
        """`listen`: names as `host:number`, number 0 for a free one. `reliable`: `ether` must not lose datagrams."""
        self.reliable = reliable
        self.datagram_max = datagram_max
        self._ether = ether
        self._listen = listen
        self._names: list[str] = []

    @property
    def places(self) -> list[str]:
        return [f"{_SCHEME}:{name}" for name in self._names]

    async def open(self, receive: Receive) -> None:
        """Begin to listen to all names. Raises PortInUse."""
        for name in self._listen:
            self._names.append(self._ether.join(name, self, receive))

    def send(self, address: MemoryAddress, datagram: bytes) -> None:
        if address.own not in self._names:
            raise OSError("the link is closed")
        self._ether.send(address.own, address.name, datagram)

    async def find(self, place: str) -> MemoryAddress:
        scheme, _, name = place.partition(":")
        if scheme != _SCHEME or not self._names:
            raise PeerUnreachable(f"{place} cannot be reached from here")
        return MemoryAddress(self, self._names[0], name)

    async def close(self) -> None:
        for name in self._names:
            self._ether.leave(name)
        self._names.clear()


SECTION = MemorySection
_ethers: WeakValueDictionary[str, Ether] = WeakValueDictionary()


def link_of(section: MemorySection) -> MemoryLink:
    """Return the link that listens at the names of `section`, in the ether that it names, which sections may share."""
    ether = _ethers.get(section.ether) or _ethers.setdefault(section.ether, Ether())
    return MemoryLink(ether, section.listen, reliable=section.reliable, datagram_max=section.datagram_max)
