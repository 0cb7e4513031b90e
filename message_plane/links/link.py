"""The contract of a link: it carries datagrams between this end and its peers, one to one.

A link knows neither CoAP nor CPNS nor sessions. It sends and receives octets, each datagram with the address of the
peer. `by_scheme` lists all links; docs/protocol.md section 3 defines the content of a datagram.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar


class Address(ABC):
    """The address of a peer on one link.

    Links make addresses. Other modules only compare them, use them as keys, and pass them to the link in `link`. Two
    addresses are equal if datagrams to either reach the same peer on the same path. An address is valid while its link
    is open; its `place` can be stored for longer.

    `to_group` is True for the sender of a datagram that was sent to many ends at once, such as a broadcast. Such a
    datagram must be answered with care.
    """

    __slots__ = ("link", "to_group")

    def __init__(self, link: Link[Any], *, to_group: bool = False) -> None:
        self.link = link
        self.to_group = to_group

    @property
    @abstractmethod
    def place(self) -> str:
        """The address as text, which begins with the scheme of its link, for example `udp:192.168.1.10:5683`.

        `Link.find` turns it into an address again, also after a restart.
        """

    @property
    @abstractmethod
    def counted_as(self) -> str:
        """The name under which limits count a peer that is not known yet, for example `udp:192.168.1.10`.

        Addresses that one sender can use at no cost, such as the UDP ports of a host, must have the same name. It
        begins with the scheme.
        """

    @property
    def carrier(self) -> str:
        """The name under which limits count all peers that one known entity brings, "" if peers come by themselves.

        That entity vouches for the names of these peers and could make up any number of them.
        """
        return ""

    @property
    def carried_by(self) -> str:
        """The ID of the known entity that brings the datagrams of this peer, "" if they come by themselves.

        All sessions with peers that it brings belong to its shard (`lease.Leases`).
        """
        return ""

    @property
    def echo_proves(self) -> bool:
        """True if a sender can write any address into its datagrams, so that only an Echo value that it sends back
        proves that it receives at this address (RFC 9175). False if the link itself vouches for the sender of every
        datagram, as a connection does. Then no sender is asked for an Echo value, and all addresses count as proven."""
        return True

    def may_be(self, entity_id: str) -> bool:
        """Return True unless the link vouches that only another entity sends from this address (`Link.place_of`)."""
        place = self.link.place_of(entity_id)
        return place is None or place == self.place

    # Names that aiocoap's message layer uses

    is_multicast: ClassVar[bool] = False

    @property
    def is_multicast_locally(self) -> bool:
        return self.to_group

    def as_response_address(self) -> Address:
        return self


DATAGRAM_MIN = 128  # octets: enough for a handshake and for blocks of 32; pairing needs twice as much

A = TypeVar("A", bound=Address)
Receive = Callable[[bytes, Address], None]


class Link(ABC, Generic[A]):
    """A link, which is opened once and closed once.

    `scheme` is the beginning of the places of this link, and the name of its kind in the table (`by_scheme`).
    `datagram_max` is the largest number of octets in a datagram, at least DATAGRAM_MIN; it decides the size of the
    blocks that long bodies are cut into. `reliable` is True if the link itself repeats lost datagrams. CoAP does not
    acknowledge or repeat then, and messages are NON (compare RFC 8323, section 2). `body_max` is the largest body that
    is sent whole, in octets; by default a block (RFC 7959).

    Before `open`, `hints` may be set to what the link calls with the place of a peer and True when the peer seems to be
    reachable (again), and with False when it seems to be gone. Any sender may have caused a hint, so it proves nothing.
    """

    scheme: ClassVar[str]
    datagram_max: int
    body_max: int = 0
    reliable: bool = False
    hints: Callable[[str, bool], None] | None = None

    @property
    @abstractmethod
    def places(self) -> list[str]:
        """The places of this end, as its peers name them; empty before `open` and after `close`."""

    @abstractmethod
    async def open(self, receive: Receive) -> None:
        """Begin to listen. `receive` is called in the event loop with each datagram and the address of its sender.

        A datagram longer than `datagram_max` may be cut to one octet more than that. Raises PlaneError, whose text says
        what a person can do.
        """

    @abstractmethod
    def send(self, address: A, datagram: bytes) -> None:
        """Send one datagram, without waiting. Raises OSError if it was not accepted; the caller treats it as lost."""

    def place_of(self, entity_id: str) -> str | None:
        """Return the place from which this entity alone can send, if the link vouches for that. By default None."""
        return None

    def prefer(self, address: A) -> None:
        """Note that a registered peer has proved itself, by a handshake or a message of its session, from `address`.

        A link that cannot serve all peers at once serves those first. By default nothing is noted.
        """

    @abstractmethod
    async def find(self, place: str) -> A:
        """Return the address of a place. A name in it, such as that of a host, is looked up. Raises PeerUnreachable."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening. Nothing is received any more. It may be called repeatedly, and before `open`."""
