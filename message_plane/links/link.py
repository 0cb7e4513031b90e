"""The contract of a link: it carries datagrams between this end and its peers, one to one.

A link knows neither CoAP nor CPNS nor sessions: octets go in, octets come out, each with the address of the peer.
`by_scheme` lists the links that there are; docs/protocol.md section 3 says what travels in a datagram.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar


class Address(ABC):
    """Where a peer is, as one link knows it.

    Links make addresses. All others compare them, use them as keys, and hand them back to the link in `link`; nobody
    else takes one apart. Two addresses are equal if what is sent to either reaches the same peer the same way. An
    address lives as long as its link is open; its `place` can be kept for longer.

    `to_group` is True for a datagram that went to many at once, such as a broadcast: it is answered with care.
    """

    __slots__ = ("link", "to_group")

    def __init__(self, link: Link[Any], *, to_group: bool = False) -> None:
        self.link = link
        self.to_group = to_group

    @property
    @abstractmethod
    def place(self) -> str:
        """The address as text, which begins with the scheme of its link, for example `udp:192.168.1.10:5683`.

        `Link.find` makes an address of it again, also after a restart.
        """

    @property
    @abstractmethod
    def counted_as(self) -> str:
        """The name under which limits count a peer that is not known yet, for example `udp:192.168.1.10`.

        All addresses that one sender has for nothing share it (UDP ports of one host). It begins with the scheme.
        """

    @property
    def echo_proves(self) -> bool:
        """True if a sender can write any address into its datagrams, and an Echo value that it sends back proves that
        it receives at this one (RFC 9175). False if the link itself vouches for the sender of every datagram, as a
        connection does: then nobody is asked for an Echo value, and limits count the address as proven."""
        return True

    # What aiocoap's message layer asks of the address of a message

    is_multicast: ClassVar[bool] = False

    @property
    def is_multicast_locally(self) -> bool:
        return self.to_group

    def as_response_address(self) -> Address:
        return self


DATAGRAM_MIN = 128  # octets: room for a handshake, and for a block of 32; pairing needs twice as much

A = TypeVar("A", bound=Address)
Receive = Callable[[bytes, Address], None]


class Link(ABC, Generic[A]):
    """One way to peers, opened once and closed once.

    `scheme` begins the places of this link, and names its kind in the table (`by_scheme`). `datagram_max` is the most
    octets of one datagram, at least DATAGRAM_MIN; it decides how large the blocks are that long bodies are cut into.
    `reliable` is True if the link itself repeats what is lost: then CoAP neither acknowledges nor repeats, and messages
    are NON (compare RFC 8323, section 2).
    """

    scheme: ClassVar[str]
    datagram_max: int
    reliable: bool = False

    @property
    @abstractmethod
    def places(self) -> list[str]:
        """The places of this end, as its peers name them; none before `open` and after `close`."""

    @abstractmethod
    async def open(self, receive: Receive) -> None:
        """Begin to listen. `receive` is called in the event loop with each datagram and the address of its sender.

        A datagram longer than `datagram_max` may come cut, one octet longer than that. Raises PlaneError: it says what
        a person can do.
        """

    @abstractmethod
    def send(self, address: A, datagram: bytes) -> None:
        """Send one datagram, without waiting. Raises OSError if it was not taken; the caller treats it as lost."""

    @abstractmethod
    async def find(self, place: str) -> A:
        """Return the address of a place, in which a name may stand that is looked up. Raises PeerUnreachable."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening. Nothing is received from then on. May be called again, and without `open` before."""
